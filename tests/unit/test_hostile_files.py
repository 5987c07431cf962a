"""Files from strangers: what they would grow to is known before memory is taken, and nothing in them is run."""

from __future__ import annotations

import json
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from tests.fuzz import files
from wolfe.data.hub_pictures import middle
from wolfe.experiments.single import _read_picture
from wolfe.files import read_json
from wolfe.reading import tensors
from wolfe.reading.pictures import FORMATS, MOST_PIXELS, read_picture
from wolfe.reading.tensors import LARGEST_HEADER, read_array, read_arrays, shapes_of
from wolfe.reading.text import LARGEST_JSON, read_text


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
