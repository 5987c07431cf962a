"""Detectors trained on some attacks and tested on every one, as the images are, as 8-bit and as JPEG images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wolfe.detection_lines import POOLED, half_and_half
from wolfe.report.detection import TRANSFORMS, Detection, accuracy, attack_rows, auc, read_detection
from wolfe.report.detection_findings import findings
from wolfe.report.grid import Column
from wolfe.report.words import fixed, proportion, significant

__all__ = ["columns", "findings", "lines", "places", "reading"]


def _cells(experiment: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every detector with every attack that it is tested on: what names the line."""
    rows = attack_rows(experiment)
    names = [str(detector["name"]) for detector in experiment["detectors"]]
    for trained_on in (POOLED, *(row["label"] for row in rows if row["learnt"])):
        for detector in names if trained_on == POOLED else experiment.get("single", []):
            for row in rows:
                own = row["learnt"] and trained_on in (POOLED, row["label"])
                named = {"table": row["table"], "slug": row["slug"], "label": row["label"]}
                named |= {"experiment": experiment["name"], "detector": str(detector), "trained_on": trained_on}
                yield named | {"learnt": bool(own)}


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and slug of the attack of every line."""
    return [(cell["table"], cell["slug"]) for experiment in spec["experiments"] for cell in _cells(experiment)]


def lines(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """One line for each detector, what it was trained on and attack that it is tested on.

    Args:
        spec: the resolved table, with its `experiments`.
        results: `results/<study>`.

    Returns:
        For each transform (`float`, `8bit`, `jpeg`) accuracy on the attack's images of the test part and the genuine
        versions of the same images, on each kind alone, the area under the ROC curve, and the share of the attacked
        images that are still taken for their target.

    Raises:
        FileNotFoundError: an experiment has not been run.
        ValueError: one is damaged or lacks a detector or an attack.
    """
    found = []
    for experiment in spec["experiments"]:
        detection = read_detection(results, experiment)
        said = _grouped(detection)
        for cell in _cells(experiment):
            found.append(cell | _numbers(said, cell))
    return pd.DataFrame(found)


def _grouped(detection: Detection) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The lines of the test part by what the detector was trained on, detector and transform."""
    lines = detection.records
    lines = lines[(lines["selected_on"] == "validation") & (lines["split"] == "test")]
    return dict(tuple(lines.groupby(["trained_on", "detector", "transform"])))


def _numbers(said: Mapping[tuple[Any, ...], pd.DataFrame], cell: Mapping[str, Any]) -> dict[str, Any]:
    numbers: dict[str, Any] = {"images": 0}
    for transform in TRANSFORMS:
        key = (cell["trained_on"], cell["detector"], transform)
        own = half_and_half(said[key], cell["label"]) if key in said else pd.DataFrame()
        # An attack that is only tested on may have reached no target at all: its line stays, and says so.
        if own.empty and (cell["learnt"] or key not in said):
            named = f"{cell['detector']} trained on {cell['trained_on']}"
            raise ValueError(
                f"experiment {cell['experiment']!r} lacks what {named} says of {cell['label']}: run it again"
            )
        adversarial = own["adversarial"] == 1
        numbers |= {"images": own["image_id"].nunique(), "l2_median": float(own.loc[adversarial, "l2"].median())}
        numbers |= accuracy(transform, own)
        numbers[f"{transform}_adversarial"] = _share(own[adversarial]["score"] > 0)
        numbers[f"{transform}_genuine"] = _share(own[~adversarial]["score"] <= 0)
        numbers |= dict(zip((f"{transform}_auc{end}" for end in ("", "_95_low", "_95_high")), auc(own), strict=True))
        numbers[f"{transform}_still_at_target"] = _share(own[adversarial]["reaches_target"])
    return numbers


def _share(values: pd.Series) -> float:
    return float(values.mean()) if len(values) else np.nan


def columns(table: pd.DataFrame) -> list[Column]:  # noqa: ARG001 (kinds of tables have this in common)
    """What readers see: who was trained on what and tested on what, and the numbers of each transform."""
    shown = [
        Column("", "Detector", lambda line: str(line["detector"]), text=True),
        Column("", "Trained on", lambda line: str(line["trained_on"]), text=True),
        Column("", "Tested on", lambda line: str(line["label"]) + ("" if line["learnt"] else " (unseen)"), text=True),
        Column("", "Images", lambda line: str(line["images"])),
        Column("", "L2 median", lambda line: significant(line["l2_median"])),
    ]
    for transform, name in TRANSFORMS.items():
        shown += [Column(name, "accuracy", _accuracy(transform)), Column(name, "AUC [95 %]", _area(transform))]
        if transform != "float":
            shown.append(Column(name, "still at target", _still(transform)))
    return shown


def _accuracy(transform: str) -> Any:
    return lambda line: fixed(line[f"{transform}_accuracy"])


def _still(transform: str) -> Any:
    return lambda line: fixed(line[f"{transform}_still_at_target"])


def _area(transform: str) -> Any:
    def show(line: Mapping[str, Any]) -> str:
        return proportion(*(line[f"{transform}_auc{end}"] for end in ("", "_95_low", "_95_high")))

    return show


def reading(table: pd.DataFrame) -> str:  # noqa: ARG001 (kinds of tables have this in common)
    """How to read the table."""
    return (
        "Each detector was trained on the images of one attack, or of several together (pooled), and is tested on "
        "every attack; unseen are those that it did not learn from. Tested are images that an attack brought to their "
        "target and the genuine versions of the same images, half and half, none of them learnt from in any version: "
        "as the attack left them, rounded to 8 bits, and as JPEG files of quality 75 (Pillow's default, colours at "
        "half the resolution); genuine images go through the same. Detectors learnt from 8-bit images, so that none "
        "can win by seeing which values are no grey levels. Accuracy is at the detector's own threshold, 0.50 is "
        "guessing; AUC is the area under the ROC curve with Newcombe's 95 % interval, which takes images for "
        "independent. An attack without images reached no target. L2 is that of the attacked images before any "
        "transform; still at target is the share of them that the attacked classifier takes for their target after it."
    )
