"""A channel in a folder, with a package that holds nothing for every requirement of the project's environments.

It shows that the files can be read and solved, not that a public channel has these packages.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from wolfe.files import sha256, write_json

USED = "used.txt"
"""In an environment: the arguments of every call of its Python."""


def make_channel(folder: Path, versions: dict[str, str]) -> None:
    """Writes a channel.

    Args:
        folder: of the channel.
        versions: of its packages, by name; the Python of an environment is the one that runs this, and writes down what
            it is asked to do.
    """
    listed = {}
    for name, version in versions.items():
        index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": [], "subdir": "noarch"}
        package = folder / "noarch" / f"{name}-{version}-0.tar.bz2"
        _write_package(package, index, {"bin/python": _python()} if name == "python" else {})
        listed[package.name] = index | {"sha256": sha256(package), "size": package.stat().st_size}
    write_json(folder / "noarch" / "repodata.json", {"info": {"subdir": "noarch"}, "packages": listed})


def _python() -> str:
    return f'#!/bin/sh\necho "$@" >> "$CONDA_PREFIX/{USED}"\nexec {sys.executable} "$@"\n'


def _write_package(file: Path, index: dict[str, Any], files: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    paths = [{"_path": path, "path_type": "hardlink"} for path in files]
    contents = {
        "info/index.json": json.dumps({**index, "noarch": "generic"}),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in files),
        **files,
    }
    with tarfile.open(file, "w:bz2") as archive:
        for path, text in contents.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
