"""Safetensors files: their header checked against the file before a tensor is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

LARGEST_HEADER = 16 << 20
"""Bytes of a header; that of a network with a thousand tensors has a hundred thousand."""
_LENGTH = 8


@contextmanager
def opened_tensors(path: Path, framework: str = "np") -> Iterator[Any]:
    """A safetensors file, opened; the header's offsets, shapes and types agree with each other and with the file.

    The library itself refuses offsets that overlap, leave gaps or do not fit shape and type.

    Args:
        path: of the file.
        framework: "np" or "pt".

    Yields:
        What `safetensors.safe_open` gives.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        _check_header(path)
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file ({error})") from error


def _check_header(path: Path) -> None:
    """Refuses a header that is longer than the file or than headers are."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH), "little")
    if length > min(LARGEST_HEADER, path.stat().st_size - _LENGTH):
        raise SafetensorError(f"its header would have {length} bytes")


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors by name; only the header is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; the message names it.
    """
    with opened_tensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (it is no map)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of a type that numpy does not have; the message names it.
    """
    with opened_tensors(path) as file:
        return {name: _array(path, file, name) for name in file.keys()}  # noqa: SIM118 (it is no map)


def read_array(path: Path, name: str) -> NDArray[Any]:
    """One array of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, has no array of that name, or one that holds no real numbers; the message names it.
    """
    with opened_tensors(path) as file:
        array = _array(path, file, name)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path} holds {name} as {array.dtype}, not as real numbers")
    return array


def _array(path: Path, file: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(file.get_tensor(name))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        # Types that numpy does not have, and empty arrays of more values than can be counted.
        raise ValueError(f"{path} has no readable {name} ({error})") from error
