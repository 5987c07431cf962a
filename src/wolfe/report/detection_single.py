"""Detectors trained on one attack and tested on the same one (Ozbulak et al. 2020, Table II)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.detection_lines import GENUINE, half_and_half
from wolfe.report.detection import accuracy, attack_rows, read_detection
from wolfe.report.grid import Column
from wolfe.report.words import fixed, listed, proportion

_KINDS = ("both", "adversarial", "genuine")


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and slug of the attack of every line."""
    rows = [row for experiment in spec["experiments"] for row in attack_rows(experiment) if row["learnt"]]
    return [(row["table"], row["slug"]) for row in rows]


def lines(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """One line for each attack that detectors were trained on alone.

    Args:
        spec: the resolved table, with its `experiments`.
        results: `results/<study>`.

    Returns:
        The attack, and for each detector the accuracy on the attack's images of the test part and on the genuine
        versions of the same images, half and half, as 8-bit images.

    Raises:
        FileNotFoundError: an experiment has not been run.
        ValueError: one is damaged, or trains no detector on a single attack.
    """
    found = []
    for experiment in spec["experiments"]:
        if not experiment.get("single"):
            raise ValueError(f"experiment {experiment['name']!r} trains no detector on one attack: name some in single")
        detection = read_detection(results, experiment)
        for row in attack_rows(experiment):
            if row["learnt"]:
                said = detection.said(row["label"])
                found.append({key: row[key] for key in ("table", "slug", "label")} | _line(experiment, said, row))
    return pd.DataFrame(found)


def _line(experiment: Mapping[str, Any], said: pd.DataFrame, row: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"experiment": experiment["name"], "images": 0}
    for detector in experiment["single"]:
        own = half_and_half(said[said["detector"] == detector], row["label"])
        if own.empty:
            raise ValueError(f"experiment {experiment['name']!r} has no detector {detector} trained on {row['label']}")
        line["images"] = own["image_id"].nunique()
        kinds = {"both": own, "adversarial": own[own["version"] != GENUINE], "genuine": own[own["version"] == GENUINE]}
        for kind in _KINDS:
            line |= accuracy(f"{detector}_{kind}", kinds[kind])
    return line


def detectors_of(table: pd.DataFrame, ending: str) -> list[str]:
    """The detectors that a table has columns of, in its order."""
    return [str(name).removesuffix(ending) for name in table if str(name).endswith(ending)]


def columns(table: pd.DataFrame) -> list[Column]:
    """What readers see: the attack, and each detector's accuracies."""
    shown = [
        Column("", "Attack", lambda line: str(line["label"]), text=True),
        Column("", "Images", lambda line: str(line["images"])),
    ]
    for detector in detectors_of(table, "_both_accuracy"):
        shown.append(accuracy_column(detector, "accuracy [95 %]", f"{detector}_both", interval=True))
        shown += [accuracy_column(detector, kind, f"{detector}_{kind}") for kind in _KINDS[1:]]
    return shown


def accuracy_column(group: str, header: str, name: str, interval: bool = False) -> Column:
    """A column that shows what `detection.accuracy` gave under a name."""

    def show(line: Mapping[str, Any]) -> str:
        value = line[f"{name}_accuracy"]
        return proportion(value, line[f"{name}_95_low"], line[f"{name}_95_high"]) if interval else fixed(value)

    return Column(group, header, show)


def reading(table: pd.DataFrame) -> str:  # noqa: ARG001 (kinds of tables have this in common)
    """How to read the table."""
    return (
        "Each detector was trained on one attack: images that it brought to their target and the genuine versions of "
        "the same images, half and half, as 8-bit images. Accuracy is over both kinds, on images of which no version "
        "was learnt from, with Wilson's 95 % interval for as many trials as there are images; adversarial and genuine "
        "are the accuracies on each kind, and 0.50 is what guessing gives. Weights, and the learning rate where "
        "several were tried, were chosen on a validation part. The published values of this table are lost, so none "
        "stand beside it."
    )


def findings(table: pd.DataFrame) -> list[str]:
    """What follows: who learns to detect what, and whether the published order holds."""
    detectors = detectors_of(table, "_both_accuracy")
    says = [_opening(table, detectors)]
    for detector in detectors:
        name = f"{detector}_both"
        order = table.sort_values(f"{name}_accuracy", ascending=False, kind="stable")
        shares = [f"{line['label']} {fixed(line[f'{name}_accuracy'])}" for _, line in order.iterrows()]
        says.append(f"{detector}: from the easiest to the hardest to detect, {listed(shares)}. {_ends(order, name)}")
    return says


def learns(line: pd.Series, name: str) -> bool:
    """Whether an accuracy is above guessing by more than chance explains."""
    return bool(line[f"{name}_95_low"] > 0.5)


def _opening(table: pd.DataFrame, detectors: list[str]) -> str:
    cells = [(line, f"{detector}_both") for _, line in table.iterrows() for detector in detectors]
    count = sum(learns(line, name) for line, name in cells)
    return f"In {count} of {len(cells)} trainings the detector is better than guessing (its interval is above 0.50)."


def _ends(order: pd.DataFrame, name: str) -> str:
    if len(order) < 2:
        return ""
    first, last = order.iloc[0], order.iloc[-1]
    if first[f"{name}_95_low"] > last[f"{name}_95_high"]:
        return "The intervals of the first and the last do not overlap."
    return "The intervals of the first and the last overlap: these images do not settle the order."
