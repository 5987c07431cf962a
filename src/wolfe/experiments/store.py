"""The store: finished pieces of work under a key that is the hash of everything their result depends on.

Snakemake deletes a job's declared outputs before it runs the job again; what is finished must survive that. So
finished shards live in the store, and the declared outputs are put together from it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wolfe.files import atomic_path, checked, read_json, sha256, write_json

_MANIFEST = "manifest.json"


class Store:
    """A folder of finished pieces of work.

    Args:
        folder: where the pieces are; created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @staticmethod
    def key(**depends_on: Any) -> str:
        """The key (24 hexadecimal digits) of a result, from all that it depends on (JSON values)."""
        text = json.dumps(depends_on, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def piece(self, key: str, name: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """A finished piece of work; made now if it is not there or not whole.

        Args:
            key: from :meth:`key`.
            name: of the piece, e.g. "shard-0000".
            make: fills the folder it is given.

        Returns:
            The piece's folder, and whether it was made now.
        """
        folder = self.folder / key / name
        if self._whole(folder):
            return folder, False
        for stale in [folder, *folder.parent.glob(f".*.{name}")]:  # of a run that was killed
            shutil.rmtree(stale, ignore_errors=True)
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            make(temporary)
            sums = {file.name: sha256(file) for file in sorted(temporary.iterdir())}
            write_json(temporary / _MANIFEST, sums)
        return folder, True

    @staticmethod
    def _whole(folder: Path) -> bool:
        """Whether a piece is there and its files are those that were written, no fewer and no others."""
        try:
            sums = read_json(folder / _MANIFEST)
            for name, expected in sums.items():
                checked(folder / name, expected)
            there = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
        except (AttributeError, FileNotFoundError, TypeError, ValueError):
            return False
        return bool(sums) and there == {*sums, _MANIFEST}
