"""Checks the files that runs have written and those that they have read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wolfe.provenance import ELSEWHERE, is_signed
from wolfe.study.document import PUBLISHED_FOLDER
from wolfe.verification.ledger import Ledger, is_run_file, is_within, read_map, sums_of


def check_runs(ledger: Ledger) -> dict[Path, dict[str, Any]]:
    """Checks all outputs and inputs that run files name, and that they name all that is there.

    Returns:
        The contents of the run files that could be read.
    """
    runs, named = {}, set()
    files = list(ledger.files())
    for file in filter(is_run_file, files):
        content = read_map(file) or {}
        outputs, inputs = sums_of(content.get("outputs")), sums_of(content.get("inputs", {}))
        if outputs is None or inputs is None or not is_signed(content):
            ledger.wrong("damaged", file, "not the run file that a stage has written: run the stage again")
            continue
        runs[file] = content
        named |= {file.parent / name for name in outputs}
        _check_outputs(ledger, file, outputs)
        _check_inputs(ledger, file, inputs)
    for file in files:
        if file not in named and not is_run_file(file):
            ledger.wrong("unknown", file, "no run file tells of it: run its stage again")
    ledger.found.runs = len(runs)
    for path in ledger.dead_ends():
        ledger.wrong("unknown", path, "a link, a pipe or a device: what is behind it is not looked at")
    for path in ledger.strangers():
        ledger.wrong("unknown", path, "no stage writes it there: move it elsewhere")
    return runs


def _check_outputs(ledger: Ledger, run: Path, outputs: dict[str, str]) -> None:
    for name, expected in outputs.items():
        path = run.parent / name
        if not is_within(path, run.parent):
            ledger.wrong("damaged", run, f"names an output outside its folder: {name}")
        elif not path.is_file():
            ledger.wrong("missing", path, "it was written once: run its stage again")
        elif not ledger.is_whole(path, expected):
            ledger.wrong("damaged", path, "not the file that was written: delete it and run its stage again")


def _check_inputs(ledger: Ledger, run: Path, inputs: dict[str, str]) -> None:
    for name, expected in inputs.items():
        path = _place(run, name)
        inside = is_within(path, ledger.results)
        if path.is_file():
            if not ledger.is_whole(path, expected):
                shown = ledger.name(path) if inside else name
                ledger.wrong("stale", run, f"made from another {shown} than there is now: run its stage again")
        elif inside:
            ledger.wrong("missing", path, f"{ledger.name(run)} says that it was read")
        else:
            ledger.found.remarks.append(f"{ledger.name(run)}: made from {name}, which is not here to be looked at")


def _place(run: Path, name: str) -> Path:
    """Where an input should lie; of those outside the working folder only published tables can be found."""
    if name.startswith(ELSEWHERE):
        return PUBLISHED_FOLDER / Path(name).name
    return (run.parent / name).resolve()
