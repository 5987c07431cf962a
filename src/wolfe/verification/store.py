"""Checks the finished pieces of work that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wolfe.provenance import RUN, is_signed
from wolfe.verification.ledger import Ledger, is_within, read_map, sums_of


def check_store(ledger: Ledger) -> None:
    """Checks that the files of every finished piece are those that were kept; unfinished training may lie beside."""
    for manifest in sorted(ledger.results.glob("store/*/*/manifest.json")):
        _check_piece(ledger, manifest, read_map(manifest))
    for run in sorted(ledger.results.glob(f"store/*/classifier/{RUN}")):
        content = read_map(run) or {}
        _check_piece(ledger, run, content.get("outputs") if is_signed(content) else None)


def _check_piece(ledger: Ledger, manifest: Path, content: Any) -> None:
    folder, sums = manifest.parent, sums_of(content)
    if folder.name.startswith("."):  # of a run that was killed
        return
    ledger.found.pieces += 1
    if sums is None:
        ledger.wrong("damaged", manifest, "not the list of checksums that was written: delete its folder")
    for name, expected in (sums or {}).items():
        path = folder / name
        if not is_within(path, folder):
            ledger.wrong("damaged", manifest, f"names a file outside its folder: {name}")
        elif not path.is_file():
            ledger.wrong("missing", path, "delete its folder: the piece of work is made again when it is needed")
        elif not ledger.is_whole(path, expected):
            ledger.wrong("damaged", path, "delete its folder: the piece of work is made again when it is needed")
