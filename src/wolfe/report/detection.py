"""What a detection experiment found, read back and verified, and the numbers that its tables share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from wolfe.detection_lines import LEARNT
from wolfe.reading.tables import read_table
from wolfe.report.records import verified_run
from wolfe.report.summary import wilson_interval

RECORDS, TRAININGS = "records.parquet", "detectors.parquet"
_INSIDE = 1e-9
TRANSFORMS = {"float": "As it is", "8bit": "8-bit", "jpeg": "JPEG"}
_NEEDED = (
    *("detector", "trained_on", "selected_on", "version", "table", "slug", "learnt", "transform", "split"),
    *("image_id", "adversarial", "reaches_target", "l2", "score"),
)


@dataclass(frozen=True)
class Detection:
    """What an experiment wrote.

    Attributes:
        records: one line for each detector and image version.
        trainings: one line a training.
    """

    records: pd.DataFrame
    trainings: pd.DataFrame

    def said(self, trained_on: str, transform: str = LEARNT, selected_on: str = "validation") -> pd.DataFrame:
        """The lines of the test part under one transform, of the detectors trained on something."""
        lines = self.records
        chosen = (lines["trained_on"] == trained_on) & (lines["selected_on"] == selected_on)
        return lines[chosen & (lines["transform"] == transform) & (lines["split"] == "test")]


@lru_cache(maxsize=4)
def _parquet(path: Path, checksum: str) -> pd.DataFrame:  # noqa: ARG001 (tells one content from the next)
    return read_table(path)


def read_detection(results: Path, experiment: Mapping[str, Any]) -> Detection:
    """Reads and verifies what an experiment wrote.

    Args:
        results: `results/<study>`.
        experiment: the resolved experiment.

    Raises:
        FileNotFoundError: it has not been run.
        ValueError: a file is damaged or something else; the message names it.
    """
    folder = Path(results) / "experiments" / experiment["name"]
    sums = verified_run(folder, (RECORDS, TRAININGS), f"run the experiment {experiment['name']}")["outputs"]
    records, trainings = (_parquet(folder / name, sums[name]) for name in (RECORDS, TRAININGS))
    missing = [name for name in _NEEDED if name not in records]
    if missing:
        raise ValueError(f"{folder / RECORDS} lacks the columns {', '.join(missing)}: run this experiment again")
    return Detection(records, trainings)


def attack_rows(experiment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The attacks of an experiment in its order: `label`, `table`, `slug`, and whether detectors learn from it."""
    parts = [(experiment["learn"], True), *((part, False) for part in experiment.get("tested", []))]
    return [
        {"label": str(row["label"]), "table": str(part["table"]), "slug": str(row["slug"]), "learnt": learnt}
        for part, learnt in parts
        for row in part["rows"]
    ]


def right(lines: pd.DataFrame) -> pd.Series:
    """Whether the detector is right about each line."""
    return pd.Series((lines["score"] > 0) == (lines["adversarial"] == 1), index=lines.index)


def accuracy(name: str, lines: pd.DataFrame) -> dict[str, Any]:
    """How many lines a detector is right about, and Wilson's interval for as many lines as there are different images.

    Versions of one image are no independent trials: counting them as such would make the interval too narrow.

    Args:
        name: begins the columns' names.
        lines: what a detector said.
    """
    correct, images = int(right(lines).sum()), lines["image_id"].nunique()
    share = correct / len(lines) if len(lines) else np.nan
    low, high = wilson_interval(round(share * images), images) if images else (np.nan, np.nan)
    numbers = {"right": correct, "versions": len(lines), "accuracy": share, "95_low": low, "95_high": high}
    return {f"{name}_{key}": value for key, value in numbers.items()}


def auc(lines: pd.DataFrame) -> tuple[float, float, float]:
    """Area under the ROC curve of lines of both kinds, with its 95 % interval.

    It is the chance that a detector takes an adversarial image for more adversarial than a genuine one, ties counted
    half; NaN where one kind is missing.
    """
    kinds: NDArray[np.int64] = lines["adversarial"].to_numpy()
    positive = int(kinds.sum())
    if positive in (0, len(kinds)):
        return np.nan, np.nan, np.nan
    from sklearn.metrics import roc_auc_score  # here, since it takes a second and most tables do not need it

    area = float(roc_auc_score(kinds, lines["score"].to_numpy()))
    return (area, *auc_interval(area, positive, len(kinds) - positive))


@lru_cache(maxsize=4096)
def auc_interval(area: float, positive: int, negative: int) -> tuple[float, float]:
    """A 95 % interval of an area under a ROC curve: R. G. Newcombe, Statistics in Medicine 25 (2006), method 5.

    It is a score interval, so it has a length also where the area is 0 or 1, and takes all images for independent.

    Args:
        area: in [0, 1].
        positive: lines of one kind, at least 1.
        negative: lines of the other kind, at least 1.
    """
    quantile = float(norm.ppf(0.975))

    def beyond(value: float, side: int) -> float:
        return side * (value - area) - quantile * _deviation(value, positive, negative)

    # The deviation is zero at 0 and 1: an area there solves the equation too, and is not the end that is meant.
    low = 0.0 if area <= 0 else brentq(beyond, 0.0, min(area, 1 - _INSIDE), args=(-1,))
    high = 1.0 if area >= 1 else brentq(beyond, max(area, _INSIDE), 1.0, args=(1,))
    return float(low), float(high)


def _deviation(area: float, positive: int, negative: int) -> float:
    """The standard deviation of an area under Hanley and McNeil's exponential model, as Newcombe takes it."""
    mean = (positive + negative) / 2 - 1
    spread = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
    return sqrt(area * (1 - area) * spread / (positive * negative))
