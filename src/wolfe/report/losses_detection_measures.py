"""Figures that are measured on what detectors and other classifiers said of the images of the four losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from wolfe.detection_lines import GENUINE, LEARNT, POOLED
from wolfe.report.detection import right
from wolfe.report.losses_intervals import Measured, correlation, mean, mean_share
from wolfe.report.losses_measures import Evidence, Measure


def _halves(lines: pd.DataFrame) -> pd.Series:
    """By image: how much of its adversarial versions and of itself is judged rightly, one half each."""
    shares = lines.assign(right=right(lines)).groupby(["image_id", "adversarial"])["right"].mean().unstack()  # noqa: PD010
    return shares.reindex(columns=[0, 1]).mean(axis=1, skipna=False).dropna()


def _pooled(seen: Evidence, detectors: Sequence[str], split: str) -> dict[str, pd.Series]:
    """By detector, after pooled training: `_halves` of the images of a part of the data."""
    assert seen.detection is not None
    lines = seen.detection.records
    lines = lines[(lines["trained_on"] == POOLED) & (lines["selected_on"] == "validation") & lines["learnt"]]
    lines = lines[(lines["transform"] == LEARNT) & (lines["split"] == split)]
    return {name: _halves(lines[lines["detector"] == name]) for name in detectors}


def worst_detector(detectors: Sequence[str]) -> Measure:
    """What the detector that is right least often is right about, after pooled training."""

    def measure(seen: Evidence) -> Measured:
        shares = _pooled(seen, detectors, "test")
        return mean_share(min(shares.values(), key=lambda values: values.mean()).to_numpy())

    return measure


def chosen_detector(detectors: Sequence[str]) -> Measure:
    """What the detector that is right most often in the validation part is right about in the test part."""

    def measure(seen: Evidence) -> Measured:
        before = _pooled(seen, detectors, "validation")
        best = max(detectors, key=lambda name: before[name].mean())
        return mean_share(_pooled(seen, [best], "test")[best].to_numpy())

    return measure


def capability_order(detectors: Sequence[str]) -> Measure:
    """The rank correlation of the detectors' order with what they are right about.

    The interval is over the detectors, of which there are few: other networks could have come out in another order
    however many images there are.
    """

    def measure(seen: Evidence) -> Measured:
        shares = pd.DataFrame(_pooled(seen, detectors, "test"))[list(detectors)].dropna()
        found = correlation(np.arange(len(detectors), dtype=float), shares.mean(axis=0).to_numpy())
        return replace(found, images=len(shares))

    return measure


def found_more(first: str, second: str) -> Measure:
    """How much more of one attack's images is found than of another's, over all detectors, after pooled training."""

    def measure(seen: Evidence) -> Measured:
        assert seen.detection is not None
        lines = seen.detection.said(POOLED)
        shares = lines.assign(right=right(lines)).groupby(["image_id", "version"])["right"].mean().unstack()  # noqa: PD010
        shares = shares.reindex(columns=[first, second])
        return mean((shares[first] - shares[second]).to_numpy())

    return measure


def right_alone(first: str, second: str) -> Measure:
    """The same of detectors that learnt one attack, judged on its images and the genuine ones."""

    def measure(seen: Evidence) -> Measured:
        assert seen.detection is not None
        shares = []
        for label in (first, second):
            lines = seen.detection.said(label)
            shares.append(_halves(lines[lines["version"].isin([label, GENUINE])]))
        return mean((shares[0] - shares[1]).to_numpy())

    return measure


def left_after_jpeg(first: str, second: str) -> Measure:
    """How much more of one attack's images than of another's is still at its target after compression."""

    def measure(seen: Evidence) -> Measured:
        assert seen.detection is not None
        lines = seen.detection.records
        lines = lines[(lines["transform"] == "jpeg") & lines["version"].isin([first, second])]
        # Every detector has a line of its own on the same image.
        reached = lines.groupby(["image_id", "version"])["reaches_target"].first().unstack()  # noqa: PD010
        reached = reached.reindex(columns=[first, second]).dropna().astype(float)
        return mean((reached[first] - reached[second]).to_numpy())

    return measure


def transfers_more(part: Mapping[str, Any], first: str, second: str, kind: str) -> Measure:
    """How much more of one run's images than of another's transfers, where both count, over all classifiers."""

    def measure(seen: Evidence) -> Measured:
        assert seen.transfer is not None
        lines = seen.transfer
        lines = lines[(lines["source"] == part["model"]) & (lines["targets"] == part["targets"])]
        counts = lines["source_success"] & lines["decided_rightly"] & ~lines["already_there"].astype(bool)
        lines = lines[counts.astype(bool)]
        keys = ["image_id", "classifier"]
        both = lines[lines["slug"] == first].merge(lines[lines["slug"] == second], on=keys, suffixes=("", "_ce"))
        more = both[kind].astype(float) - both[f"{kind}_ce"].astype(float)
        return mean(more.groupby(both["image_id"]).mean().to_numpy())

    return measure
