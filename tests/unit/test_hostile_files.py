"""Files from strangers: what they would grow to is known before memory is taken, and nothing in them is run."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from tests.fuzz import files
from wolfe.data.card import checked_rows
from wolfe.data.hub_folders import _inside
from wolfe.data.hub_pictures import middle
from wolfe.data.image_set import load_card, open_split
from wolfe.data.writer import card_checksum
from wolfe.experiments.single import _read_picture
from wolfe.experiments.targets import read_targets
from wolfe.files import checked, read_json, sha256, write_json
from wolfe.models.adopting import _tensors
from wolfe.models.storage import load_classifier
from wolfe.reading.pictures import FORMATS, MOST_PIXELS, read_picture
from wolfe.reading.tables import MOST_ROWS, read_table
from wolfe.reading.tensors import read_array, read_arrays
from wolfe.report.records import read_trace


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A grey picture whose header says what it likes."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("sides", [(100_000, 100_000), (MOST_PIXELS + 1, 1), ((1 << 31) - 1, (1 << 31) - 1)])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, sides: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png(*sides))
    with pytest.raises(ValueError, match=r"bomb\.png is no picture that can be read \(.*more than 80000000"):
        _read_picture(tmp_path / "bomb.png", [3, 32, 32])


def test_a_picture_is_read_in_usual_formats_alone() -> None:
    assert "EPS" not in FORMATS
    *usual, postscript = files.pictures()
    assert postscript.startswith(b"%!PS")
    for content in usual:
        assert read_picture(content, "RGB").size == (32, 32)
    with pytest.raises(ValueError, match="cannot identify"):
        read_picture(postscript, "RGB")


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", png(8, 8), png(0, 8), png(8, 8, b"\x09" * 72), b"P6 0 0 255\n"]
)
def test_a_damaged_picture_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_picture(content, "RGB")


def test_a_picture_must_have_the_size_that_is_asked_for() -> None:
    with pytest.raises(ValueError, match="32x32 pixels, not 16x16"):
        read_picture(files.pictures()[0], "RGB", size=(16, 16))


def test_a_long_thin_picture_is_not_made_wide() -> None:
    with pytest.raises(ValueError, match="more than 80000000"):
        middle(Image.new("L", (1, 60_000)), 224, 256)


def tensor_file(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: list[int], begin: int = 0, end: int = 16, kind: str = "F32") -> dict[str, Any]:
    return {"adversarials": {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        tensor_file(entry([4]), bytes(16), length=1 << 40),
        tensor_file(entry([1 << 40]), bytes(16)),
        tensor_file(entry([1 << 62, 1 << 62]), bytes(16)),
        tensor_file(entry([4], 0, 1 << 40), bytes(16)),
        tensor_file(entry([4], 8, 24), bytes(24)),
        tensor_file(entry([-4]), bytes(16)),
        tensor_file(entry([4], kind="X9"), bytes(16)),
        tensor_file(entry([2, 2], 16, 0), bytes(16)),
        tensor_file({**entry([4]), "other": entry([4])["adversarials"]}, bytes(16)),
        tensor_file(entry([4]), bytes(8)),
        tensor_file(entry([4], 0, 16), bytes(16) + b"more"),
        tensor_file({}, b""),
        tensor_file(entry([0, 1 << 60, 1 << 10], 0, 0), b""),
        tensor_file(entry([8], kind="BF16"), bytes(16)),
        tensor_file(entry([2], kind="I64"), bytes(16)),
        tensor_file([1]),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"it\.safetensors"):
        read_array(tmp_path / "it.safetensors", "adversarials")


def test_whole_tensor_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").write_bytes(save({"a": np.arange(4.0), "b": np.zeros((2, 0), np.uint8)}))
    found = read_arrays(tmp_path / "it.safetensors")
    assert found["a"].tolist() == [0, 1, 2, 3]
    assert found["b"].shape == (2, 0)


def test_a_table_of_too_many_rows_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    nothing = pa.nulls(MOST_ROWS // 50)
    with pq.ParquetWriter(path, pa.schema([("image_id", pa.null())])) as writer:
        for _ in range(51):
            writer.write_table(pa.table({"image_id": nothing}))
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=f"bomb.parquet .*rows are more than {MOST_ROWS}"):
        read_table(path)


def test_a_text_that_would_stand_in_every_row_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"image_id": words}), path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"bomb\.parquet .*1000000 bytes in each of 1000000 rows"):
        read_table(path)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": 1}]),
        pa.array([[["x"]]]),
        pa.array([b"\xff"]),
        pa.array([["x"]]),
        pa.array([0], pa.timestamp("s")),
    ],
)
def test_a_column_of_another_kind_is_refused(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"target": column}), tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet .*column target holds"):
        read_table(tmp_path / "it.parquet")


def test_a_trace_does_not_become_the_square_of_its_lines(tmp_path: Path) -> None:
    lines = {
        "image_id": ["a"] * 1000,
        "step": range(1000),
        "name": [f"q{n}" for n in range(1000)],
        "value": [0.5] * 1000,
    }
    pd.DataFrame(lines).to_parquet(tmp_path / "trace.parquet")
    write_json(tmp_path / "run.json", {"outputs": {"trace.parquet": sha256(tmp_path / "trace.parquet")}})
    with pytest.raises(ValueError, match="more than 100 quantities"):
        read_trace(tmp_path)


@pytest.mark.parametrize("labels", [[None, None], ["x", "y"], [[0, 1], [0]], [float("nan"), 1.0]])
def test_targets_are_whole_numbers(tmp_path: Path, labels: list[Any]) -> None:
    pd.DataFrame({"image_id": ["a", "b"], "true_label": labels, "target": labels}).to_parquet(tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet"):
        read_targets(tmp_path / "it.parquet")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="pipe is missing"):
        checked(tmp_path / "pipe", "0")
    for read in (read_table, read_arrays, lambda path: read_picture(path, "L")):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "pipe")


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5_000, "\xff", '{"a": '])
def test_json_that_is_none_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "it.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"it\.json is not valid JSON"):
        read_json(tmp_path / "it.json")


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small classifier of each encoding."""
    return files.write_classifiers(tmp_path_factory.mktemp("classifiers"))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("network", "width"), 8, r"weights\.safetensors does not fit the network"),
        (("network", "width"), 10**9, "network is not what"),
        (("network", "name"), None, "network is not what"),
        (("network", "x"), "y" * 1_000, "network is not what"),
        (("network", "x"), [[[1]]], "network is not what"),
        (
            ("network",),
            {"name": "timm", "architecture": "resnet10t", "checkpoint_path": "evil.pth"},
            "network is not what",
        ),
        (
            ("network",),
            {"name": "timm", "architecture": "resnet10t", "pretrained_cfg": {"url": "x"}},
            "network is not what",
        ),
        (("network",), {"name": "timm", "architecture": "vit_tiny_patch16_224", "depth": 10**6}, "network is not what"),
        (("network",), {"name": "timm", "architecture": "hf-hub:somebody/something"}, "no architecture"),
        (
            ("network",),
            {"name": "frozen_features", "backbone": {"name": "frozen_features", "backbone": {}}},
            "network is not",
        ),
        (("encoding",), {"kind": "one_hot", "classes": 10**12}, "encoding is not what"),
        (("encoding",), {"kind": "one_hot", "classes": 100_000}, "does not fit the network"),
        (("encoding",), {"kind": "codebook", "codewords": [[1], [1, 2]], "activation": "tanh"}, "encoding is not what"),
        (("encoding",), {"kind": "one_hot"}, "encoding is not what"),
        (("image_shape",), [1, 10**6, 10**6], "image_shape is not what"),
        (("image_shape",), [1, 32], "image_shape is not what"),
        (("mean",), "x", "mean is not what"),
        (("std",), [0.0], "std is not what"),
        (("class_names",), {"a": 1}, "class_names is not what"),
        (("weights_sha256",), 3, "weights_sha256 is not what"),
    ],
)
def test_a_description_that_is_absurd_is_refused(
    classifiers: list[Path], tmp_path: Path, keys: tuple[str, ...], value: Any, message: str
) -> None:
    description = read_json(classifiers[0] / "classifier.json")
    place = description
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    write_json(tmp_path / "classifier.json", description)
    (tmp_path / "weights.safetensors").write_bytes((classifiers[0] / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match=message):
        load_classifier(tmp_path)


def test_weights_are_compared_before_the_network_is_built(
    classifiers: list[Path], tmp_path: Path, monkeypatch: Any
) -> None:
    """The parameters of a network of width 8 would take gigabytes; on the meta device they take none."""
    description = read_json(classifiers[0] / "classifier.json")
    write_json(tmp_path / "classifier.json", {**description, "network": {**description["network"], "width": 8}})
    (tmp_path / "weights.safetensors").write_bytes((classifiers[0] / "weights.safetensors").read_bytes())
    monkeypatch.setattr("wolfe.models.storage.build_described", lambda *_: pytest.fail("the network was built"))
    with pytest.raises(ValueError, match="tensors are missing, too many or of another shape"):
        load_classifier(tmp_path)


def test_valid_classifiers_are_read(classifiers: list[Path]) -> None:
    for folder in classifiers:
        assert (
            load_classifier(folder)(torch.zeros(1, *read_json(folder / "classifier.json")["image_shape"]))
            .isfinite()
            .all()
        )


class Evil:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def test_no_pickle_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": torch.zeros(1), "y": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="no tensors that can be read safely"):
        _tensors(tmp_path / "evil.pth")
    assert not (tmp_path / "pwned").exists()


def test_weights_hold_no_more_values_than_their_file(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1).expand(1 << 40)}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="more values than the file has"):
        _tensors(tmp_path / "wide.pth")
    content = zipfile.ZipFile(io.BytesIO(files.weights_of_torch()))
    with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in content.namelist():
            packed.writestr(name, content.read(name))
    with pytest.raises(ValueError, match="its parts are compressed"):
        _tensors(tmp_path / "packed.pth")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with labels in a hierarchy."""
    return files.write_datasets(tmp_path_factory.mktemp("data"))[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "x"), ("class_names", "abc"), ("class_names", []), ("class_names", ["x" * 501]), ("counts", {"x": 1}),
        ("counts", {"test": -1}), ("counts", {"test": 10**12}), ("image_shape", [3, 10**5, 10**5]),
        ("image_shape", [4, 8, 8]), ("image_shape", [3, 8.5, 8]), ("checksums", ["x"]), ("label_parents", [None]),
        ("label_parents", 3),
    ],
)  # fmt: skip
def test_a_card_that_is_absurd_is_refused(dataset: Path, tmp_path: Path, key: str, value: Any) -> None:
    card = {**load_card(dataset), key: value}
    write_json(tmp_path / "card.json", {**card, "card_sha256": card_checksum(card)})
    with pytest.raises(ValueError, match=rf"card\.json is damaged: {key} is not what"):
        load_card(tmp_path)


def test_a_file_that_no_card_names_is_refused(dataset: Path, tmp_path: Path) -> None:
    card = load_card(dataset)
    card["checksums"] = {name: value for name, value in card["checksums"].items() if not name.endswith(".arrow")}
    write_json(tmp_path / "card.json", {**card, "card_sha256": card_checksum(card)})
    (tmp_path / "arrow").symlink_to(dataset / "arrow")
    with pytest.raises(ValueError, match="is not on the card"):
        open_split(tmp_path, "test")


class Rows:
    """What `datasets` would hold."""

    def __init__(self, **columns: Any) -> None:
        self.data = pa.table(columns)


CARD = {"task": "single", "class_names": ["a", "b"], "counts": {"test": 2}}
PICTURE = pa.array([{"bytes": b"", "path": None}] * 2, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [0, 2]}, "labels from 0 to 2 of 2 classes"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [-1, 1]}, "labels from -1"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [None, 1]}, "without a label"),
        ({"image": PICTURE, "image_id": pa.nulls(2), "label": [0, 1]}, "no column image_id"),
        ({"image": pa.array([b"", b""]), "image_id": ["a", "b"], "label": [0, 1]}, "no column image"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": ["0", "1"]}, "no column label"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [0, 1], "more": [{"a": 1}] * 2}, "no column more"),
        ({"image_id": pa.nulls(1000)}, "holds 1000 images, its card says 2"),
    ],
)
def test_rows_must_be_what_their_card_says(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_rows(Rows(**columns), "test", CARD)
    right = Rows(image=PICTURE, image_id=["a", "b"], label=[0, 1])
    assert checked_rows(right, "test", CARD) is right


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "a\0.jpg"])
def test_a_list_of_pictures_names_none_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="which is no file of"):
        _inside(tmp_path, name)
    assert _inside(tmp_path, "a/b..c.jpg") == tmp_path / "a" / "b..c.jpg"
