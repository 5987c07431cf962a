"""Checks the finished pieces of work that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wolfe.provenance import RUN, is_signed
from wolfe.verification.ledger import Ledger, is_within, read_map, sums_of

_CLASSIFIER, _CHECKPOINTS = "classifier", "checkpoints"
_REMEDY = "delete its folder: the piece of work is made again when it is needed"


def check_store(ledger: Ledger) -> None:
    """Checks that every finished piece holds the files that were kept and no others.

    Checkpoints of a training that goes on later lie beside them. A piece that is gone is no loss.
    """
    store = ledger.results / "store"
    if store.exists() and not store.is_dir():
        ledger.wrong("unknown", store, "no folder of finished work: delete it")
    for path in _shown(store):
        for piece in _shown(path):
            if piece.is_dir() and piece.name != _CHECKPOINTS:
                _check_piece(ledger, piece)
            elif not piece.is_dir():
                ledger.wrong("unknown", piece, "no piece of work: delete it")
        if not path.is_dir():
            ledger.wrong("unknown", path, "no piece of work: delete it")


def _check_piece(ledger: Ledger, folder: Path) -> None:
    ledger.found.pieces += 1
    told = folder / (RUN if folder.name == _CLASSIFIER else "manifest.json")
    sums = _told_by(told)
    if not sums:
        ledger.wrong("damaged", told, "not the list of checksums that was written: delete its folder")
        return
    for name, expected in sums.items():
        path = folder / name
        if not is_within(path, folder):
            ledger.wrong("damaged", told, f"names a file outside its folder: {name}")
        elif not path.is_file():
            ledger.wrong("missing", path, _REMEDY)
        elif not ledger.is_whole(path, expected):
            ledger.wrong("damaged", path, _REMEDY)
    for path in _shown(folder):
        if path != told and path.name not in sums:
            ledger.wrong("unknown", path, f"its piece of work does not tell of it; {_REMEDY}")


def _told_by(file: Path) -> dict[str, str] | None:
    """The files of a piece with their checksums: a classifier's stand in a run file, others' alone."""
    content = read_map(file)
    if content is None or file.name != RUN:
        return sums_of(content)
    return sums_of(content.get("outputs")) if is_signed(content) else None


def _shown(folder: Path) -> Iterator[Path]:
    """What lies in a folder, if it is one; what is hidden was left by a run that was killed."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if not path.name.startswith("."))
