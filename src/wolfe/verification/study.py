"""Checks that what a study wants has been made, and from what the study says now."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wolfe.files import content_checksum
from wolfe.provenance import RUN, beside, entry_checksum
from wolfe.verification.ledger import Ledger, counted, read_map

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_study(ledger: Ledger, runs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Holds the run files against `study.json`, the study as it was last resolved.

    Args:
        ledger: of the check.
        runs: the run files that were read.
    """
    file = ledger.results / "study.json"
    if not file.exists() and not file.is_symlink():
        _check_it_was_never_there(ledger, file, runs)
        return
    study = read_map(file) or {}
    if study.get("sha256") != content_checksum(study) or not _is_study(study):
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


def _check_it_was_never_there(ledger: Ledger, file: Path, runs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Where only some of a study's tables were asked for it was never written; its report is made from it."""
    if "study" in runs.get(beside(ledger.results / "report"), {}):
        ledger.wrong("missing", file, "report.run.json says that a study made it: make the report again")
    else:
        ledger.found.remarks.append("study.json is not there (a full run writes it): what is wanted is not known")


def _is_study(study: Mapping[str, Any]) -> bool:
    """Whether everything that is looked at is there, under names that lead nowhere else."""
    maps: list[Any] = [study.get(kind) for kind in ("datasets", "models")]
    lists: list[Any] = [study.get(kind) for kind in ("tables", "figures")]
    if not all(isinstance(part, dict) for part in maps) or not all(isinstance(part, list) for part in lists):
        return False
    named = [item for part in maps for item in part.items()]
    named += [(entry.get("name") if isinstance(entry, dict) else None, entry) for part in lists for entry in part]
    return all(isinstance(name, str) and _NAME.fullmatch(name) and isinstance(entry, dict) for name, entry in named)


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
