"""Checks that what a study wants has been made, and from what the study says now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wolfe.files import content_checksum
from wolfe.provenance import RUN, beside, entry_checksum
from wolfe.verification.ledger import Ledger, counted, read_map


def check_study(ledger: Ledger, runs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Holds the run files against `study.json`, the study as it was last resolved.

    Args:
        ledger: of the check.
        runs: the run files that were read.
    """
    file = ledger.results / "study.json"
    if not file.is_file():
        ledger.found.remarks.append("study.json is not there (a full run writes it): what is wanted is not known")
        return
    study = read_map(file) or {}
    if study.get("sha256") != content_checksum(study):
        ledger.wrong("damaged", file, "not the file that was written: delete it and make the report again")
        return
    for run, entry in _wanted(ledger.results, study):
        if run not in runs:
            ledger.wrong("missing", run, "the study wants what it tells of")
        elif entry is not None and runs[run].get("entry", entry) != entry:
            ledger.wrong("stale", run, "made when the study said otherwise: run its stage again")
    others = sum(run.get("study", study["sha256"]) != study["sha256"] for run in runs.values())
    if others:
        ledger.found.differing.append(f"study: {counted(others)} of {len(runs)} when the study was another")


def _wanted(results: Path, study: Mapping[str, Any]) -> Iterator[tuple[Path, str | None]]:
    """The run files of what the study names, with the checksums of its entries where they are told in full."""
    for folder in ("data", "models"):
        for name, entry in study["datasets" if folder == "data" else folder].items():
            yield results / folder / name / RUN, entry_checksum(entry)
    for table in study["tables"]:
        yield beside(results / "tables" / table["name"]), entry_checksum(table)
    for figure in study["figures"]:
        yield beside(results / "figures" / figure["name"]), None
    yield beside(results / "report"), study["sha256"]
