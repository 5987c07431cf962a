"""Files that are whole or absent: atomic writing, checksums, JSON."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wolfe.reading.regular import regular_file
from wolfe.reading.text import LARGEST_JSON, parse_json, read_text


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its name when the block ends well.

    The block may create a file or a directory under the name it is given. After an error nothing of it stays
    and whatever stood at `path` before is untouched.

    Args:
        path: where the result shall be. Its parent is created.

    Yields:
        The path to write to; its name ends like `path` (some writers look at the suffix).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, or of a directory's sorted relative names and contents.

    Args:
        path: a file or a directory.

    Returns:
        64 hexadecimal digits.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is neither, but a pipe or a device; the message names it.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if not path.is_dir():
        with regular_file(path).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        digest.update(file.relative_to(path).as_posix().encode())
        digest.update(bytes.fromhex(sha256(file)))
    return digest.hexdigest()


def checked(path: Path, expected: str) -> Path:
    """The path itself, once its contents are known to be those that were written.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: its checksum differs from `expected`.
    """
    # Not what merely exists: reading from a pipe would wait for ever.
    if not (Path(path).is_file() or Path(path).is_dir()):
        raise FileNotFoundError(f"{path} is missing: run the stage that writes it again")
    if sha256(path) != expected:
        raise ValueError(f"{path} is damaged (its checksum differs from the recorded one): delete it and run again")
    return Path(path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def content_checksum(content: dict[str, Any]) -> str:
    """The SHA-256 of plain values, whatever the order of their keys and without the entry `sha256` that may hold it."""
    values = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no regular file, does not parse, is too large or nested too deeply; the message names it.
    """
    try:
        return parse_json(read_text(path, LARGEST_JSON))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): delete it and run again") from error
