"""Checks a study's results again: what run files say against what is there now.

Every output must exist with its checksum, every input must still be what was read, what the study names must have been
made from what it says, and kept pieces of work must be whole. Other code or packages than were at work then are told
too, but make no result wrong.
"""

from __future__ import annotations

from pathlib import Path

from wolfe.verification.ledger import STAGES, Findings, Ledger
from wolfe.verification.now import compare_with_now
from wolfe.verification.runs import check_runs
from wolfe.verification.store import check_store
from wolfe.verification.study import check_study
from wolfe.verification.tables import differing_tables

__all__ = ["Findings", "differing_tables", "verify"]


def verify(results: Path) -> Findings:
    """Checks all results of a study again.

    Args:
        results: `results/<study>`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no stage of a study has written anything there.
    """
    results = Path(results)
    if not results.is_dir():
        raise FileNotFoundError(f"{results} is no folder: name the results of a study, e.g. results/embedded")
    if not any((results / name).is_dir() for name in STAGES):
        raise ValueError(f"{results} holds no results of a study: none of {', '.join(STAGES)}")
    ledger = Ledger(results)
    runs = check_runs(ledger)
    check_study(ledger, runs)
    check_store(ledger)
    compare_with_now(ledger.found, runs.values())
    return ledger.found
