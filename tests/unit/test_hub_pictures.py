"""Pictures of published sets: their size, their border, and how few are read at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import center_crop, resize

from tests.unit.published_files import TINY, picture, spec, write_parquet, write_tiny
from wolfe.data import build_dataset, load_card, open_split
from wolfe.data.hub_files import open_parquet, split_files
from wolfe.data.hub_pictures import Pictures, Shape, middle
from wolfe.data.hub_sets import HUB_SETS, HubSet


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a set of two splits, one of them in two files."""
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    return write_tiny(tmp_path / "hub")


def test_only_one_row_group_is_read_for_one_picture(root, monkeypatch):
    table = open_parquet(TINY, "train", split_files(TINY, "train", str(root), "main")[0], partial=False)
    assert table.starts.tolist() == [0, 4, 7, 10, 12]
    pictures = Pictures(table, np.array([2, 5, 8, 11]), Shape(3, 32, 32))
    expected = [picture(row, "train")[:, 4:36] for row in (2, 5, 8, 11)]
    read = []
    usual = pq.ParquetFile.read_row_group

    def noted(self, number, columns):
        read.append(number)
        return usual(self, number, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    assert np.array_equal(pictures[2], expected[2]) and read == [0]
    assert [np.array_equal(*pair) for pair in zip(pictures, expected, strict=True)] == [True] * 4
    assert np.array_equal(pictures[1:][0], expected[1]) and len(pictures[1:]) == 3


@given(width=st.integers(20, 90), height=st.integers(20, 90), size=st.integers(8, 40), more=st.integers(0, 12))
def test_the_middle_is_that_of_the_usual_evaluation(width, height, size, more):
    image = Image.fromarray(picture(width, "any", width, height))
    expected = center_crop(resize(image, [size + more]), [size])
    assert np.array_equal(np.asarray(middle(image, size, size + more)), np.asarray(expected))


def test_columns_of_copies_are_found_and_grey_stays_grey(tmp_path, monkeypatch):
    grey = HubSet(title="Grey", repository="someone/grey", counts={"test": 6}, classes=3, channels=1)
    monkeypatch.setitem(HUB_SETS, "grey", grey)
    write_parquet(tmp_path / "test-0.parquet", "test", 6, image="img")
    splits = {"train": "test[:2]", "validation": "test[2:4]", "test": "test[4:]"}
    entry = {"source": "hub", "collection": "grey", "size": 16, "splits": splits, "data_root": str(tmp_path)}
    build_dataset("grey", entry, tmp_path / "set", 0)
    part = open_split(tmp_path / "set", "test")
    assert part.images([0, 1]).shape == (2, 1, 16, 16)


def test_a_border_is_black_and_part_of_the_size(root, tmp_path):
    build_dataset("plain", spec(root, {"size": 28}), tmp_path / "plain", 0)
    build_dataset("padded", spec(root, {"pad": 2}), tmp_path / "padded", 0)
    plain, padded = (open_split(tmp_path / name, "test").images(range(5)) for name in ("plain", "padded"))
    assert padded.shape == (5, 3, 32, 32)
    assert torch.equal(padded[..., 2:-2, 2:-2], plain)
    padded[..., 2:-2, 2:-2] = 0
    assert not padded.any() and plain.any()


def test_padding_keeps_the_pixels_of_a_picture_that_has_the_size(root, tmp_path):
    build_dataset("padded", spec(root, {"size": 36, "pad": 2}), tmp_path / "set", 0)
    image = open_split(tmp_path / "set", "test").images([3])[0]
    expected = torch.from_numpy(picture(3, "test")[:, 4:36].copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(image[:, 2:-2, 2:-2], expected)


def test_a_stretched_picture_is_whole(root, tmp_path):
    build_dataset("tiny", spec(root, {"stretch": True}), tmp_path / "set", 0)
    image = open_split(tmp_path / "set", "test").images([3])[0]
    expected = Image.fromarray(picture(3, "test")).resize((32, 32), Image.Resampling.BILINEAR)
    assert torch.equal(image, torch.from_numpy(np.array(expected)).permute(2, 0, 1).float() / 255)
    assert "whatever their shape" in load_card(tmp_path / "set")["provenance"]


def test_pictures_that_are_damaged_inside_a_file_are_named(root, tmp_path):
    path = root / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    cells = table.column("image").to_pylist()
    cells[3]["bytes"] = cells[3]["bytes"][:200]
    pq.write_table(table.set_column(0, "image", pa.array(cells)), path)
    with pytest.raises(ValueError, match=r"row 3 of row group 0 of .*test-00000.* is no picture"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    cells[3]["bytes"] = None
    pq.write_table(table.set_column(0, "image", pa.array(cells)), path)
    with pytest.raises(ValueError, match=r"row 3 .* is no picture .it holds no bytes"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


@pytest.mark.parametrize("changes", [{"side": 32}, {"side": 40}, {"side": 32, "channels": 1}])
def test_pictures_that_have_not_the_published_size_are_refused(tmp_path, monkeypatch, changes):
    monkeypatch.setitem(HUB_SETS, "square", HubSet(**{**vars(TINY), "counts": {"test": 6}, **changes}))
    write_parquet(tmp_path / "test-0.parquet", "test", 6)
    splits = {"train": "test[:2]", "validation": "test[2:4]", "test": "test[4:]"}
    entry = {"source": "hub", "collection": "square", "size": 16, "splits": splits, "data_root": str(tmp_path)}
    side, channels = changes["side"], changes.get("channels", 3)
    message = rf"has 40x32 pixels in 3 channel.s., the set's pictures have {side}x{side} pixels in {channels} channel"
    with pytest.raises(ValueError, match=message):
        build_dataset("square", entry, tmp_path / "set", 0)
    monkeypatch.setitem(HUB_SETS, "square", HubSet(**{**vars(TINY), "counts": {"test": 6}}))
    build_dataset("square", entry, tmp_path / "set", 0)
