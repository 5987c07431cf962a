"""Detectors trained on all attacks together (Ozbulak et al. 2020, Table III)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.detection_lines import POOLED
from wolfe.report.detection import Detection, accuracy, attack_rows, read_detection
from wolfe.report.detection_single import accuracy_column, detectors_of
from wolfe.report.grid import Column
from wolfe.report.words import fixed, listed

_TOTALS = {"adversarial": "Adversarial examples", "genuine": "Genuine images", "overall": "Overall accuracy"}
_CHOICES = {"validation": "", "test": "_chosen_on_test"}


def _rows(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of an experiment: its attacks, and what they come to."""
    attacks = [row for row in attack_rows(experiment) if row["learnt"]]
    totals = [{"label": label, "table": attacks[0]["table"], "slug": slug} for slug, label in _TOTALS.items()]
    return [*attacks, *totals]


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and slug of the attack of every line; `adversarial`, `genuine` and `overall` for what they come to."""
    return [(row["table"], row["slug"]) for experiment in spec["experiments"] for row in _rows(experiment)]


def lines(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """One line for each attack, and three for all adversarial images, all genuine ones and both.

    Args:
        spec: the resolved table, with its `experiments`.
        results: `results/<study>`.

    Returns:
        For each detector the accuracy on the test part, as 8-bit images: with the learning rate that was chosen on the
        validation part, and with the one that is best on the test part itself.

    Raises:
        FileNotFoundError: an experiment has not been run.
        ValueError: one is damaged or lacks a detector.
    """
    found = []
    for experiment in spec["experiments"]:
        detection = read_detection(results, experiment)
        names = [str(detector["name"]) for detector in experiment["detectors"]]
        for row in _rows(experiment):
            line = {key: row[key] for key in ("table", "slug", "label")} | {"experiment": experiment["name"]}
            found.append(line | _line(detection, names, row))
    return pd.DataFrame(found)


def _line(detection: Detection, detectors: list[str], row: Mapping[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"images": 0}
    for detector in detectors:
        for choice, suffix in _CHOICES.items():
            said = detection.said(POOLED, selected_on=choice)
            own = _kind(said[(said["detector"] == detector) & said["learnt"]], row)
            if own.empty:
                raise ValueError(f"{detector} was not judged on {row['label']}: run this experiment again")
            line["images"] = own["image_id"].nunique()
            line |= accuracy(f"{detector}{suffix}", own)
        tried = detection.trainings["detector"] == detector, detection.trainings["trained_on"] == POOLED
        line[f"{detector}_rates_tried"] = int((tried[0] & tried[1]).sum())
        line[f"{detector}_learning_rate"] = _rate(detection, detector, "chosen_on_validation")
        line[f"{detector}_learning_rate_chosen_on_test"] = _rate(detection, detector, "chosen_on_test")
    return line


def _kind(said: pd.DataFrame, row: Mapping[str, Any]) -> pd.DataFrame:
    """The lines that a row is about."""
    if row["slug"] not in _TOTALS:
        return said[said["version"] == row["label"]]
    return said if row["slug"] == "overall" else said[said["adversarial"] == int(row["slug"] == "adversarial")]


def _rate(detection: Detection, detector: str, chosen: str) -> float:
    trainings = detection.trainings
    own = (trainings["detector"] == detector) & (trainings["trained_on"] == POOLED) & trainings[chosen]
    return float(trainings.loc[own, "learning_rate"].iloc[0])


def columns(table: pd.DataFrame) -> list[Column]:
    """What readers see: the row, and each detector's accuracy by both choices."""
    shown = [
        Column("", "", lambda line: str(line["label"]), text=True),
        Column("", "Images", lambda line: str(line["images"])),
    ]
    for detector in _detectors(table):
        shown.append(accuracy_column(detector, "accuracy [95 %]", detector, interval=True))
        if _differs(table, detector):
            shown.append(accuracy_column(detector, "rate chosen on test", f"{detector}_chosen_on_test"))
    return shown


def _chooses(table: pd.DataFrame) -> bool:
    """Whether there was more than one learning rate to choose from."""
    return any(table[f"{detector}_rates_tried"].max() > 1 for detector in _detectors(table))


def _detectors(table: pd.DataFrame) -> list[str]:
    return detectors_of(table, "_learning_rate")


def _differs(table: pd.DataFrame, detector: str) -> bool:
    """Whether the two ways to choose a learning rate come to different ones."""
    rates = table[f"{detector}_learning_rate"], table[f"{detector}_learning_rate_chosen_on_test"]
    return bool((rates[0] != rates[1]).any())


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    text = (
        "Each detector was trained on the images of all these attacks together, all labelled adversarial, and on "
        "genuine images: the same ones, and others against imbalance. Accuracy is on 8-bit images of which no version "
        "was learnt from, with Wilson's 95 % interval for as many trials as there are images; for an attack it is the "
        "share of its images that are detected."
    )
    return f"{text} {_choice(table)} The published values of this table are lost, so none stand beside it."


def _choice(table: pd.DataFrame) -> str:
    """How weights and learning rates were chosen."""
    if not _chooses(table):
        return "Weights were chosen on a validation part; one learning rate was tried, so none had to be chosen."
    text = "Weights and learning rate were chosen on a validation part"
    others = [detector for detector in _detectors(table) if _differs(table, detector)]
    if others:
        return (
            f"{text}; beside it stands, where it differs, the rate that is best on the test part, as the paper has it."
        )
    return f"{text}; the rate that is best on the test part, which the paper shows, is the same throughout."


def findings(table: pd.DataFrame) -> list[str]:
    """What follows: which detector is best, which attack is hardest, and what choosing on the test part adds."""
    says = []
    for _, part in table.groupby("experiment", sort=False):
        overall = part[part["slug"] == "overall"].iloc[0]
        known = [name for name in _detectors(part) if pd.notna(overall[f"{name}_accuracy"])]
        ranked = sorted(known, key=lambda name: -overall[f"{name}_accuracy"])
        shares = [f"{name} {_kinds(part, name)}" for name in ranked]
        says.append(f"Overall accuracy, adversarial and genuine in brackets: {listed(shares)}.")
        says += [_hardest(part, known), _chosen(part, known)]
    return [text for text in says if text]


def _kinds(part: pd.DataFrame, name: str) -> str:
    overall, adversarial, genuine = (
        fixed(part.loc[part["slug"] == slug, f"{name}_accuracy"].iloc[0])
        for slug in ("overall", "adversarial", "genuine")
    )
    return f"{overall} ({adversarial}, {genuine})"


def _hardest(part: pd.DataFrame, detectors: list[str]) -> str:
    attacks = part[~part["slug"].isin(list(_TOTALS))]
    if len(attacks) < 2:
        return ""
    means = attacks[[f"{name}_accuracy" for name in detectors]].mean(axis=1)
    order = means.sort_values(ascending=False, kind="stable").index
    shares = [f"{attacks.loc[index, 'label']} {fixed(means[index])}" for index in order]
    return f"Detected share by attack, mean over the detectors, easiest first: {listed(shares)}."


def _chosen(part: pd.DataFrame, detectors: list[str]) -> str:
    if not _chooses(part):
        return ""
    overall = part[part["slug"] == "overall"].iloc[0]
    gains = [overall[f"{name}_chosen_on_test_accuracy"] - overall[f"{name}_accuracy"] for name in detectors]
    return (
        "Choosing the learning rate on the test part, as the paper does, would raise the overall accuracy by "
        f"{fixed(max(gains))} at most (mean {fixed(sum(gains) / len(gains), 3)})."
    )
