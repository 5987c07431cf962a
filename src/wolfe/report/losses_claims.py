"""Every claim of the paper on losses, with the figures measured here, their intervals and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.report.detection import read_detection
from wolfe.report.grid import Column, rows_of
from wolfe.report.losses_detection_statements import detection_statements, transfer_statements
from wolfe.report.losses_intervals import DRAWS, FAILS, FEWEST, HOLDS, UNDECIDED, verdict
from wolfe.report.losses_measures import Evidence
from wolfe.report.losses_runs import LOSSES, SETTINGS, SURE, loss_of, loss_rows, read_losses, setting_of
from wolfe.report.losses_statements import Statement, statements
from wolfe.report.transfer import read_transfer
from wolfe.report.words import MISSING, listed, significant

__all__ = ["columns", "findings", "lines", "places", "reading"]

_SENTENCES = {FAILS: "Does not hold here", UNDECIDED: "Undecided here"}


def lines(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """One line for each statement.

    Args:
        spec: the resolved table, with `part` (the table of attacks with all losses in both settings) and, each at
            most one, `experiments` (detections) and `transfers`, without which their claims are left out.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: a run, the experiment or the transfer is missing.
        ValueError: a file is damaged, or a loss is missing in a setting.
    """
    part = spec["part"]
    _check_complete(part)
    detections = [read_detection(results, entry) for entry in spec.get("experiments", [])]
    transfers = [read_transfer(Path(results) / "transfer" / entry["name"]) for entry in _transfers(spec)]
    seen = Evidence(
        runs={(run.setting, run.loss): run for run in read_losses(part, results)},
        detection=detections[0] if detections else None,
        transfer=transfers[0] if transfers else None,
    )
    return pd.DataFrame([{"table": table} | _line(statement, seen) for table, statement in _all(spec)])


def _check_complete(part: Mapping[str, Any]) -> None:
    known = {(setting_of(row), loss_of(row)) for row in loss_rows(part)}
    for setting in SETTINGS:
        missing = [loss for loss in LOSSES if (setting, loss) not in known]
        if missing:
            raise ValueError(
                f"table {part['table']!r} has no row of the loss {missing[0]} with {setting} and stop_at_success "
                "false: the claims compare all four losses in both settings"
            )


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The table of attacks and the name of every statement."""
    return [(table, statement.slug) for table, statement in _all(spec)]


def _transfers(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The transfers that have the images of the runs."""
    name = spec["part"]["table"]
    return [one for one in spec.get("transfers", []) if name in {table["table"] for table in one["tables"]}]


def _all(spec: Mapping[str, Any]) -> list[tuple[str, Statement]]:
    """Every statement in the paper's order, with the table whose images it is about."""
    part = spec["part"]
    found = [(part["table"], statement) for statement in statements()]
    for experiment in spec.get("experiments", []):
        found += [(experiment["learn"]["table"], statement) for statement in detection_statements(experiment)]
    return found + [(part["table"], statement) for _ in _transfers(spec) for statement in transfer_statements(part)]


def _line(statement: Statement, seen: Evidence) -> dict[str, Any]:
    measured = statement.measure(seen)
    return {
        "slug": statement.slug,
        "section": statement.claim.section,
        "bullet": statement.claim.bullet,
        "claim": statement.claim.text,
        "measured": statement.words,
        "images": measured.images,
        "value": measured.value,
        "value_95_low": measured.low,
        "value_95_high": measured.high,
        "holds_above": statement.above,
        "holds_below": statement.below,
        "verdict": verdict(measured, statement.above, statement.below),
    }


def columns(_: pd.DataFrame) -> list[Column]:
    """What readers see."""
    return [
        Column("", "Section", _section, text=True),
        Column("", "Claim", lambda line: line["claim"], text=True),
        Column("", "Measured here", lambda line: line["measured"], text=True),
        Column("", "images", lambda line: str(line["images"])),
        Column("", "figure [95 %]", _figure),
        Column("", "holds if", _wanted),
        Column("", "verdict", lambda line: line["verdict"], text=True),
    ]


def _section(line: Mapping[str, Any]) -> str:
    return f"{line['section']}, {line['bullet']}" if line["bullet"] else str(line["section"])


def _figure(line: Mapping[str, Any]) -> str:
    if pd.isna(line["value"]):
        return MISSING
    if pd.isna(line["value_95_low"]):
        return _number(line["value"])
    return f"{_number(line['value'])} [{_number(line['value_95_low'])}, {_number(line['value_95_high'])}]"


def _number(value: float) -> str:
    """Three digits, but no more decimals than anyone can use."""
    return significant(value) if abs(value) >= 1 else f"{value:.2f}"


def _wanted(line: Mapping[str, Any]) -> str:
    above, below = line["holds_above"], line["holds_below"]
    if math.isfinite(above) and math.isfinite(below):
        return f"{above:g} to {below:g}"
    return f"> {above:g}" if math.isfinite(above) else f"< {below:g}"


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    return (
        "Section and claim of the paper in our words, with the number of the claim in the section's list. Each line is "
        f"one figure: it {HOLDS} where the whole 95 % interval fulfils the condition, {FAILS} where none of it "
        f"does, else it is {UNDECIDED}, as with fewer than {FEWEST} images, or where each image gives the bound itself "
        "(nothing happens under either loss). Differences are between two losses on the "
        "same images (mean), quotients are geometric means over the images that have both, and their intervals come "
        f"from {DRAWS:,} draws of the images with replacement, the same draws for all; shares have Wilson's interval, "
        "correlations that of Bonett and Wright. Images that never change count the whole budget as steps; distances "
        "at the first change are over the images that change under both. A class is certain from a softmax of "
        f"{SURE} on. Times: in the place of an interval stand the least and the greatest of the figures that both "
        "settings give, taken crosswise too, since images of a batch share them. The bounds of claims that the paper "
        "makes in words (far more, limited, effective) are ours. "
        f"{_about_detectors(table)}{_absent(table)}"
    ).rstrip()


def _about_detectors(table: pd.DataFrame) -> str:
    if not table["slug"].eq("best-detector").any():
        return ""
    return (
        "Intervals of what detectors say are over images: they hold for the detectors that were trained, and other "
        "initial weights may give others. "
    )


def _absent(table: pd.DataFrame) -> str:
    slugs = table["slug"]
    absent = [
        words
        for start, words in (("best-detector", "detection"), ("transfer-", "transfer"))
        if not slugs.str.startswith(start).any()
    ]
    return f"Left out: the claims about {listed(absent)}, which this study does not ask about." if absent else ""


def findings(table: pd.DataFrame) -> list[str]:
    """What follows: how many claims hold, and which do and do not.

    A claim holds if all its lines do, and does not if one of them does not.

    Args:
        table: the full table.
    """
    claims = [part for _, part in table.groupby(["section", "claim"], sort=False)]
    verdicts = [_together(part) for part in claims]
    counts = [f"{verdicts.count(name)} {words}" for name, words in _PLURALS.items()]
    opening = f"Of {len(claims)} claims, in {len(table)} figures, {listed(counts)} on these networks and images."
    others = [
        f"{_SENTENCES[name]}: {_claim(part, name)}."
        for wanted in _SENTENCES
        for part, name in zip(claims, verdicts, strict=True)
        if name == wanted
    ]
    return [opening, *others]


_PLURALS = {HOLDS: "hold", FAILS: "do not hold", UNDECIDED: "are undecided"}


def _together(part: pd.DataFrame) -> str:
    found = set(part["verdict"])
    if FAILS in found:
        return FAILS
    return HOLDS if found == {HOLDS} else UNDECIDED


def _claim(part: pd.DataFrame, name: str) -> str:
    """A claim and its figures with the verdict that it owes to them."""
    first, *_ = rows_of(part)
    shown = [
        f"{line['measured']}: {_figure(line)} (holds if {_wanted(line)})"
        for line in rows_of(part[part["verdict"] == name])
    ]
    return f"{first['claim']} ({_section(first)}). Measured: {'; '.join(shown)}"
