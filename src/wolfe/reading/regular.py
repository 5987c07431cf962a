"""Files that are files: opening a pipe waits until somebody writes to it, and a device may never end."""

from __future__ import annotations

import stat
from pathlib import Path


def regular_file(path: Path) -> Path:
    """The path itself, once it is known to lead to a regular file; nothing is opened.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it cannot be looked at.
        ValueError: a folder, a pipe, a socket or a device is there; the message names it.
    """
    if not is_regular(path):
        raise ValueError(f"{path} is no regular file")
    return Path(path)


def is_regular(path: Path) -> bool:
    """Whether what is there is a regular file; unlike `Path.is_file` it fails where nothing is.

    Raises:
        FileNotFoundError: nothing is there.
        OSError: it cannot be looked at.
    """
    return stat.S_ISREG(Path(path).stat().st_mode)
