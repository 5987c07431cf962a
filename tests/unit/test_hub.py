"""Published sets: what goes where, what is refused, how pictures get their size, and sets larger than the memory."""

from __future__ import annotations

import inspect
import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import center_crop, resize

from wolfe.data import build_dataset, hub_files, hub_sets, load_card, open_split, writer
from wolfe.data.hub import build_hub
from wolfe.data.hub_files import Pictures, middle, open_table, split_files
from wolfe.data.hub_sets import HUB_SETS, HubSet, images_of, parts_of
from wolfe.study.document import schema

NAMES = ("ant", "bee", "cat")
TINY = HubSet(title="Tiny", repository="someone/tiny", counts={"train": 12, "test": 5}, classes=3)
SPLITS = {"train": "train[:8]", "validation": "train[8:]", "test": "test"}


def picture(row: int, split: str, width: int = 40, height: int = 32) -> np.ndarray:
    random = np.random.default_rng([row, len(split)])
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_parquet(path, split, count, image="image", label="label", names=NAMES, first=0, groups=2):
    """Parquet files as the hub has them: pictures as bytes, the classes' names in the metadata."""
    cells = []
    for row in range(first, first + count):
        stream = io.BytesIO()
        Image.fromarray(picture(row, split)).save(stream, format="PNG")
        cells.append({"bytes": stream.getvalue(), "path": None})
    labels = [row % 3 for row in range(first, first + count)]
    features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    table = pa.table({image: cells, label: pa.array(labels, pa.int64())})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=-(-count // groups))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a set of two splits, one of them in two files."""
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    write_parquet(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet", "train", 7)
    write_parquet(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet", "train", 5, first=7)
    write_parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", "test", 5)
    return tmp_path / "hub"


def spec(root, changes=None):
    entry = {"source": "hub", "collection": "tiny", "size": 32, "splits": dict(SPLITS), "data_root": str(root)}
    return {**entry, **(changes or {})}


def test_every_image_is_in_one_split_with_its_label_and_place(root, tmp_path):
    build_dataset("tiny", spec(root), tmp_path / "set", 4)
    card = load_card(tmp_path / "set")
    assert card["counts"] == {"train": 8, "validation": 4, "test": 5}
    assert card["image_shape"] == [3, 32, 32] and card["class_names"] == list(NAMES)
    assert str(tmp_path) not in json.dumps(card)
    rows = {"train": [], "test": []}
    for name in SPLITS:
        part = open_split(tmp_path / "set", name)
        assert part.columns["hub_row"] == sorted(part.columns["hub_row"])
        assert part.labels.tolist() == [row % 3 for row in part.columns["hub_row"]]
        for index, (split, row) in enumerate(zip(part.columns["hub_split"], part.columns["hub_row"], strict=True)):
            rows[split].append(row)
            expected = torch.from_numpy(picture(row, split)[:, 4:36].copy()).permute(2, 0, 1).float() / 255
            assert torch.equal(part.images([index])[0], expected)
    assert sorted(rows["train"]) == list(range(12)) and rows["test"] == list(range(5))


def test_parts_are_drawn_by_the_seed(root, tmp_path):
    def train(seed, folder):
        build_dataset("tiny", spec(root), tmp_path / folder, seed)
        return open_split(tmp_path / folder, "train").columns["hub_row"], load_card(tmp_path / folder)["checksums"]

    assert train(1, "a") == train(1, "b")
    assert len({tuple(train(seed, f"c{seed}")[0]) for seed in range(6)}) > 1


def test_a_set_that_is_written_piece_by_piece_is_the_same(root, tmp_path, monkeypatch):
    build_dataset("tiny", spec(root), tmp_path / "whole", 0)
    monkeypatch.setattr(writer, "_TOGETHER", 3)
    build_dataset("tiny", spec(root), tmp_path / "pieces", 0)
    whole, pieces = (load_card(tmp_path / name) for name in ("whole", "pieces"))
    assert whole == pieces
    assert sorted(path.name for path in (tmp_path / "pieces" / "arrow").iterdir()) == [
        "dataset_dict.json",
        *sorted(SPLITS),
    ]


def test_only_one_row_group_is_read_for_one_picture(root, monkeypatch):
    table = open_table(TINY, "train", split_files(TINY, "train", str(root), "main")[0], partial=False)
    assert table.starts.tolist() == [0, 4, 7, 10, 12]
    pictures = Pictures(table, np.array([2, 5, 8, 11]), 3, 32, 32)
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collection": "imagnet"}, "no collection 'imagnet'; there are imagenet, cifar10"),
        ({"splits": {"train": "train", "test": "test"}}, "splits must say what train, validation, test hold"),
        ({"splits": {**SPLITS, "validation": "train[6:]"}}, "share images"),
        ({"splits": {**SPLITS, "validation": "valid"}}, "no split 'valid' with labels; it has train, test"),
        ({"splits": {**SPLITS, "validation": "train[8-9]"}}, "must look like"),
        ({"splits": {**SPLITS, "validation": "train[12:]"}}, "would be empty: train.12:. of 12 images"),
        ({"size": 4}, "size must be at least 8"),
        ({"shorter_side": 16}, "shorter_side at least size"),
        ({"size": "32"}, "size must be a whole number"),
        ({"splits": "train"}, "splits must be a map"),
        ({"revison": "main"}, "no option 'revison'; it has collection"),
        ({"data_root": "/nowhere/at/all"}, "data_root /nowhere/at/all is no folder"),
    ],
)
def test_wrong_entries_are_refused(root, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_dataset("tiny", spec(root, changes), tmp_path / "set", 0)
    assert not (tmp_path / "set").exists()


def test_missing_options_and_files_are_named(root, tmp_path):
    with pytest.raises(ValueError, match="hub needs the option 'size'"):
        build_dataset("tiny", {"source": "hub", "collection": "tiny", "splits": SPLITS}, tmp_path / "set", 0)
    (root / "data" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"no files test-\*.parquet: put the parquet files of someone/tiny"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_incomplete_files_are_refused_unless_that_is_meant(root, tmp_path):
    (root / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match="has 12 images, the files hold 7: fetch them all, or say partial: true"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    with pytest.raises(ValueError, match="train has 7 images here, so none from number 8 on"):
        build_dataset("tiny", spec(root, {"partial": True}), tmp_path / "set", 0)
    splits = {**SPLITS, "train": "train[:4]", "validation": "train[4:]"}
    build_dataset("tiny", spec(root, {"partial": True, "splits": splits}), tmp_path / "set", 0)
    card = load_card(tmp_path / "set")
    assert card["counts"] == {"train": 4, "validation": 3, "test": 5} and "some of the published" in card["provenance"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 6}, "has 5 images, the files hold 6: these are no files of it"),
        ({"image": "photo"}, "no column image or img; it has photo, label"),
        ({"label": "fine_label"}, "no column label; it has image, fine_label"),
        ({"names": ("ant", "bee")}, "names 2 classes; someone/tiny has 3"),
        ({"names": ("ant", "bee", "bee")}, "names 2 classes; someone/tiny has 3"),
    ],
)
def test_files_of_something_else_are_refused(root, tmp_path, changes, message):
    write_parquet(root / "data" / "test-00000-of-00001.parquet", "test", **{"count": 5, **changes})
    with pytest.raises(ValueError, match=message):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_labels_names_and_pictures_are_checked(root, tmp_path):
    path = root / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, 2, -1, 0])), path)
    with pytest.raises(ValueError, match="rows without a label from 0 to 2"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(ValueError, match="does not say what its classes mean"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    pq.write_table(table.set_column(0, "image", pa.array([{"bytes": b"no picture", "path": None}] * 5)), path)
    with pytest.raises(ValueError, match="is no picture"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    assert not (tmp_path / "set" / "card.json").exists()


def test_without_a_network_the_remedy_is_named(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def refused(repository, repo_type, revision, allow_patterns):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(FileNotFoundError, match=r"someone/tiny cannot be fetched here .no network.*name its folder as"):
        split_files(TINY, "train", None, "main")


def test_a_gated_set_says_how_to_get_in(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    def refused(repository, repo_type, revision, allow_patterns):
        raise GatedRepoError("gated", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    with pytest.raises(FileNotFoundError, match=r"is gated: accept its terms.*HF_TOKEN.*data_root"):
        split_files(TINY, "train", None, "main")


def test_a_fetched_set_is_known_by_its_revision(root, monkeypatch):
    import huggingface_hub

    asked = {}

    def fetched(repository, repo_type, revision, allow_patterns):
        asked.update(repository=repository, repo_type=repo_type, revision=revision, patterns=allow_patterns)
        return str(root)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    files, said = split_files(TINY, "train", None, "abc")
    assert [path.name[:11] for path in files] == ["train-00000", "train-00001"] and said == f"revision {root.name}"
    assert asked["repository"] == "someone/tiny" and asked["revision"] == "abc" and asked["repo_type"] == "dataset"
    assert asked["patterns"] == "*train-*.parquet"


@given(sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)), cut=st.integers(1, 60), images=st.integers(1, 100))
def test_counts_of_parts_are_those_of_slices(sizes, cut, images):
    start, length = sizes
    for text, expected in (
        (f"train[{start}:{start + length}]", range(images)[start : start + length]),
        (f"train[:{cut}]", range(images)[:cut]),
        (f"train[{cut}:]", range(images)[cut:]),
    ):
        part = hub_sets._part("mnist", "train", text)
        assert part.count(images) == len(expected)


def test_the_schema_knows_the_same_sets():
    branches = schema()["$defs"]["dataset"]["allOf"]
    hub = next(branch for branch in branches if branch["if"]["properties"]["source"].get("const") == "hub")
    said = hub["then"]["properties"]
    assert said["collection"]["enum"] == list(HUB_SETS)
    parameters = {key: item for key, item in inspect.signature(build_hub).parameters.items() if key != "seed"}
    assert set(said) == set(parameters)
    assert set(hub["then"]["required"]) == {key for key, item in parameters.items() if item.default is item.empty}
    defaults = {key: item["default"] for key, item in said.items() if "default" in item}
    assert defaults == {key: item.default for key, item in parameters.items() if item.default is not item.empty}


def test_images_of_an_entry_are_known_without_its_files():
    entry = {
        "collection": "imagenet",
        "splits": {"train": "train", "validation": "validation[:10000]", "test": "validation[10000:]"},
    }
    assert [images_of(entry, split) for split in ("train", "validation", "test")] == [1_281_167, 10_000, 40_000]
    assert parts_of("imagenet", entry["splits"])["validation"].stop == 10_000
    assert hub_files.middle(Image.new("RGB", (10, 10)), 8, 8).size == (8, 8)
