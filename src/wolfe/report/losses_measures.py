"""Figures that are measured on runs of the four losses on the same images, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wolfe.report.detection import Detection
from wolfe.report.losses_intervals import Measured, correlation, mean, ratio, share
from wolfe.report.losses_runs import LOSSES, SETTINGS, SURE, LossRun

CE, SIGN, LOGIT, MARGIN = LOSSES
MULTIPLIER, PERTURBATION = SETTINGS
FADED = 1e-3
"""A gradient this much shorter than at the start counts as faded."""


@dataclass(frozen=True)
class Evidence:
    """What statements are measured on.

    Attributes:
        runs: by setting and loss, all on the same images.
        detection: what detectors said, where that is asked for.
        transfer: what other classifiers said of the runs' images, where that is asked for.
    """

    runs: Mapping[tuple[str, str], LossRun]
    detection: Detection | None = None
    transfer: pd.DataFrame | None = None


Measure = Callable[[Evidence], Measured]
"""How a figure is measured."""


def steps_between(setting: str, first: str, second: str) -> Measure:
    """How many steps more a loss takes to the first change; images that never change count the whole budget."""
    return lambda seen: mean(seen.runs[setting, second].censored - seen.runs[setting, first].censored)


def distances_ratio(setting: str, near: str, far: str, name: str) -> Measure:
    """How many times as far a loss has moved an image at its first change, of images that change under both."""
    return lambda seen: ratio(*(seen.runs[setting, loss].at_first(name) for loss in (far, near)))


def _lengths(run: LossRun) -> NDArray[np.float64]:
    return run.curves["gradient_magnitude"]


def lengths_at_start(first: str, second: str) -> Measure:
    """How many times as long one loss's first gradient is as another's, of images that begin in S1."""

    def measure(seen: Evidence) -> Measured:
        runs = [seen.runs[MULTIPLIER, loss] for loss in (first, second)]
        sure = runs[0].curves["softmax_initial"][:, 0] >= SURE
        return ratio(*(_lengths(run)[sure, 0] for run in runs))

    return measure


def length_between(seen: Evidence) -> Measured:
    """The mean length over the steps in S2, as a share of the first, of images that begin in S1."""
    run = seen.runs[MULTIPLIER, CE]
    sure = [run.curves[f"softmax_{name}"] >= SURE for name in ("initial", "target")]
    inside = ~sure[0] & ~sure[1] & (np.arange(run.steps + 1) <= run.made[:, None])
    able = sure[0][:, 0] & inside.any(axis=1)
    middle = np.where(inside, _lengths(run), 0)[able].sum(axis=1) / inside[able].sum(axis=1)
    return ratio(middle, _lengths(run)[able, 0])


def faded(loss: str) -> Measure:
    """The share of the images that end in S3 whose gradient has faded."""

    def measure(seen: Evidence) -> Measured:
        run = seen.runs[PERTURBATION, loss]
        there = run.curves["softmax_target"][:, -1] >= SURE
        return share((_lengths(run)[:, -1] <= FADED * _lengths(run)[:, 0])[there])

    return measure


def zero_at_end(loss: str) -> Measure:
    """Of the images whose target's softmax is exactly 1 when the budget ends, those whose gradient is exactly zero.

    At equal perturbation, in the precision of the attack: where the softmax is still below 1 the loss is not at its
    limit, and nothing is said of it.
    """

    def measure(seen: Evidence) -> Measured:
        run = seen.runs[PERTURBATION, loss]
        return share(_lengths(run)[run.curves["softmax_target"][:, -1] == 1, -1] == 0)

    return measure


def _first_steps(seen: Evidence) -> dict[str, NDArray[np.float64]]:
    return {loss: _lengths(seen.runs[MULTIPLIER, loss])[:, 0] for loss in LOSSES}


def first_step_extremes(seen: Evidence) -> Measured:
    """The longest of the four losses' first steps over the shortest."""
    steps = np.stack(list(_first_steps(seen).values()))
    return ratio(steps.max(axis=0), steps.min(axis=0))


def sign_boost(seen: Evidence) -> Measured:
    """The first step of CE-sign over the longest of the others."""
    steps = _first_steps(seen)
    return ratio(steps[SIGN], np.max([steps[loss] for loss in LOSSES if loss != SIGN], axis=0))


def shrunk(seen: Evidence) -> Measured:
    """The last length of the CE gradient as a share of its first, zeros among them."""
    lengths = _lengths(seen.runs[MULTIPLIER, CE])
    return mean(lengths[:, -1] / np.where(lengths[:, 0] > 0, lengths[:, 0], np.nan))


def further_logit(setting: str, loss: str) -> Measure:
    """By how much the target's logit ends higher under the logit loss than under another."""

    def measure(seen: Evidence) -> Measured:
        ends = [seen.runs[setting, name].curves["logit_target"][:, -1] for name in (LOGIT, loss)]
        return mean(ends[0] - ends[1])

    return measure


def time_of_a_step(which: Callable[[list[float]], float]) -> Measure:
    """M-logit's time for a gradient over the longest (`max`) or shortest (`min`) of the others', mean of both settings.

    Images of a batch share its time, so that they say nothing of how it varies. In the place of an interval stand the
    least and the greatest figure that M-logit in one setting and the others in the same or the other one give: a loss's
    time differs between settings by chance alone.
    """

    def quotient(seen: Evidence, own: str, of_others: str) -> float:
        others = [_seconds_each(seen.runs[of_others, loss].records) for loss in LOSSES if loss != MARGIN]
        return _seconds_each(seen.runs[own, MARGIN].records) / which(others)

    def measure(seen: Evidence) -> Measured:
        alone = [quotient(seen, own, of_others) for own in SETTINGS for of_others in SETTINGS]
        images = len(seen.runs[MULTIPLIER, MARGIN].records)
        return Measured(sum(alone) / len(alone), min(alone), max(alone), images)

    return measure


def _seconds_each(records: pd.DataFrame) -> float:
    return float(records["seconds"].sum() / records["vjps"].sum())


def norms_together(loss: str) -> Measure:
    """The rank correlation of both distances at the first change, at equal perturbation."""

    def measure(seen: Evidence) -> Measured:
        run = seen.runs[PERTURBATION, loss]
        return correlation(run.at_first("l2"), run.at_first("linf"))

    return measure
