"""Files from strangers: what they would grow to is known before memory is taken, and nothing in them is run."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
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
from typer.testing import CliRunner

from tests.fuzz import files
from wolfe.cli import app
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
from wolfe.provenance import begin_run
from wolfe.reading import tables, tensors
from wolfe.reading.pictures import FORMATS, MOST_PIXELS, read_picture
from wolfe.reading.tables import MOST_COLUMNS, MOST_ROWS, opened_table, read_table
from wolfe.reading.tensors import LARGEST_HEADER, read_array, read_arrays, shapes_of
from wolfe.reading.text import LARGEST_JSON, read_text
from wolfe.report.grid import read_csv
from wolfe.report.published import read_published
from wolfe.report.records import read_trace
from wolfe.report.single import _read as draw_read
from wolfe.study.document import read_document
from wolfe.verification.tables import _text as text_of_table

from ..conftest import rewrite_run


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


def test_a_header_longer_than_headers_are_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tensor_file(entry([4]), bytes(16))
    length = int.from_bytes(content[:8], "little")
    (tmp_path / "it.safetensors").write_bytes(content)
    monkeypatch.setattr(tensors, "LARGEST_HEADER", length)
    for read in (read_arrays, shapes_of):
        assert list(read(tmp_path / "it.safetensors")) == ["adversarials"]
    assert LARGEST_HEADER == 16 << 20
    monkeypatch.setattr(tensors, "LARGEST_HEADER", length - 1)
    for read in (read_arrays, shapes_of):
        with pytest.raises(ValueError, match=rf"it\.safetensors .*its header would have {length} bytes"):
            read(tmp_path / "it.safetensors")


@pytest.mark.parametrize("content", [b"", b"1234567", tensor_file(entry([4]), bytes(16), length=1 << 20)])
def test_a_header_longer_than_its_file_is_refused_before_the_library_reads_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "it.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"it\.safetensors .*its header would have"):
        read_arrays(tmp_path / "it.safetensors")


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


def test_columns_that_take_more_together_than_their_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    zeros = pa.array(np.zeros(1_000_000, np.int64))
    table = pa.table({f"c{number}": zeros for number in range(40)})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(14):
            writer.write_table(table)
    assert path.stat().st_size < 4_000_000
    with pytest.raises(ValueError, match=r"bomb\.parquet .*14000000 rows of 320 bytes are more than 4294967296"):
        read_table(path)
    assert len(read_table(path, ["c3"])) == 14_000_000


def test_texts_and_lists_of_all_columns_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.parquet"
    pq.write_table(pa.table({"a": [[1, 2, 3]], "b": [[4, 5]], "c": ["abc"], "d": ["de"]}), path)
    monkeypatch.setattr(tables, "MOST_VALUES", 5)
    monkeypatch.setattr(tables, "LARGEST_TEXT", 5)
    monkeypatch.setattr(tables, "LARGEST_TABLE", 2 * 128 + 2 * 16)
    assert read_table(path)["b"][0].tolist() == [4, 5]
    for bound, message in (
        ("MOST_VALUES", "lists up to column b hold more than 4 values"),
        ("LARGEST_TEXT", "column d would have 2 bytes in each of 1 rows"),
        ("LARGEST_TABLE", "1 rows of 288 bytes"),
    ):
        with monkeypatch.context() as lower:
            lower.setattr(tables, bound, getattr(tables, bound) - 1)
            with pytest.raises(ValueError, match=message):
                read_table(path)


def test_a_table_of_too_many_columns_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    for columns in (MOST_COLUMNS, MOST_COLUMNS + 1):
        pq.write_table(pa.table({f"c{number}": [0] for number in range(columns)}), path)
        if columns == MOST_COLUMNS:
            assert read_table(path).shape == (1, MOST_COLUMNS)
    with pytest.raises(ValueError, match=rf"it\.parquet .*{MOST_COLUMNS + 1} columns are more than"):
        read_table(path)


def test_a_column_that_the_file_calls_its_index_is_checked_too(tmp_path: Path) -> None:
    """Pandas reads it, whichever columns it is asked for."""
    said = {"field_name": "hidden", "name": "hidden", "pandas_type": "object", "numpy_type": "object", "metadata": None}
    index = {"index_columns": ["hidden"], "columns": [said], "column_indexes": []}
    content = pa.table({"image_id": ["a"], "hidden": [["x"]]}).replace_schema_metadata({"pandas": json.dumps(index)})
    pq.write_table(content, tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet .*column hidden holds list"):
        read_table(tmp_path / "it.parquet", ["image_id"])


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
    rewrite_run(tmp_path, {"outputs": {"trace.parquet": sha256(tmp_path / "trace.parquet")}})
    with pytest.raises(ValueError, match="more than 100 quantities"):
        read_trace(tmp_path)


@pytest.mark.parametrize("labels", [[None, None], ["x", "y"], [[0, 1], [0]], [float("nan"), 1.0]])
def test_targets_are_whole_numbers(tmp_path: Path, labels: list[Any]) -> None:
    pd.DataFrame({"image_id": ["a", "b"], "true_label": labels, "target": labels}).to_parquet(tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet"):
        read_targets(tmp_path / "it.parquet")


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Puts pipes into the temporary folder, by their names; who opens one finds nothing, and does not wait for ever."""
    writers = []

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        writers.append(subprocess.Popen(["/bin/sh", "-c", 'while :; do : > "$0"; done', str(path)]))
        return path

    yield make
    for writer in writers:
        writer.kill()
        writer.wait()


def test_a_pipe_is_no_file(pipe: Callable[[str], Path]) -> None:
    path = pipe("pipe")
    with pytest.raises(FileNotFoundError, match="pipe is missing"):
        checked(path, "0")
    for read in (read_table, read_arrays, lambda path: read_picture(path, "L")):
        with pytest.raises(FileNotFoundError):
            read(path)


@pytest.mark.parametrize(
    "read",
    [read_json, read_document, sha256, _tensors, read_published, text_of_table, opened_table, draw_read,
     lambda path: read_csv(path, []), lambda path: read_text(path, 10)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["it.csv", "it.safetensors"])
def test_a_pipe_is_refused_before_it_is_opened(
    pipe: Callable[[str], Path], read: Callable[[Path], object], name: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=r"is no regular file|there is no picture"):
        read(pipe(name))


def test_a_folder_or_nothing_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    for read in (read_json, _tensors, read_published):
        with pytest.raises(ValueError, match="no regular file"):
            read(tmp_path)
        with pytest.raises(FileNotFoundError, match="nothing"):
            read(tmp_path / "nothing")


def test_commands_end_in_one_line_where_a_pipe_stands_for_a_file(pipe: Callable[[str], Path], tmp_path: Path) -> None:
    study = CliRunner().invoke(app, ["validate", str(pipe("study.yaml"))])
    assert study.exit_code == 2
    assert "study.yaml: is no regular file" in study.output
    pipe("results/store/key/shard-0001/manifest.json")
    (tmp_path / "results" / "tables").mkdir()
    verified = CliRunner().invoke(app, ["verify", str(tmp_path / "results")])
    assert "store/key/shard-0001/manifest.json" in verified.output
    assert verified.exit_code == 1
    pipe("data/card.json")
    with pytest.raises(FileNotFoundError, match=r"card\.json is missing"):
        load_card(tmp_path / "data")
    assert begin_run("targets", data=tmp_path / "data").dataset == {}


def test_a_short_file_takes_little_memory(tmp_path: Path) -> None:
    (tmp_path / "it.json").write_text("{}")
    tracemalloc.start()
    try:
        assert read_json(tmp_path / "it.json") == {}
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_text_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "it.json").open("wb") as stream:
        stream.truncate(LARGEST_JSON + 1)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"is larger than {LARGEST_JSON} bytes"):
            read_json(tmp_path / "it.json")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_text_is_read_to_its_end(tmp_path: Path) -> None:
    for size in (0, 1, (1 << 16) - 1, 1 << 16, 200_000):
        (tmp_path / "it.txt").write_text("x" * size)
        assert read_text(tmp_path / "it.txt", 200_000) == "x" * size
    with pytest.raises(ValueError, match="larger than 199999 bytes"):
        read_text(tmp_path / "it.txt", 199_999)


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


@pytest.mark.parametrize(
    "value",
    [
        torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True),
        torch.zeros(3, device="meta"),
    ],
    ids=["sparse", "meta"],
)
def test_weights_are_dense(tmp_path: Path, value: torch.Tensor) -> None:
    torch.save({"x": value}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds a tensor that is no plain array of numbers \(x\)"):
        _tensors(tmp_path / "other.pth")


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
