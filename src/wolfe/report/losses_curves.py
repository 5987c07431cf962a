"""Two figures of curves over the steps: how an attack leads from class to class, and how gradients grow and fade."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from wolfe.names import attack_name
from wolfe.report.drawing import GREY, INK, STYLE, WIDTH
from wolfe.report.losses_runs import LOSSES, SETTINGS, SURE, LossRun, by_setting, read_loss, read_losses
from wolfe.report.losses_style import COLOURS, DASHES, SMALL, SPACES, quartiles, show_legend
from wolfe.report.records import attacks_of
from wolfe.report.words import fixed, length, listed

_HEIGHT = 2.35
_EDGES = {"left": 0.075, "right": 0.975, "bottom": 0.18, "top": 0.92}


def draw_path(spec: Mapping[str, Any], results: Path) -> Figure:
    """The mean softmax of both classes along an attack by sign steps, and how many images are in each sub-space."""
    run = _path_run(spec, results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, _HEIGHT))
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(**_EDGES, wspace=0.22)
        _draw_softmax(left, run)
        _draw_spaces(right, run)
        for axes in (left, right):
            axes.set(xlabel="step", xlim=(0, run.steps), ylim=(0, 1))
            axes.tick_params(labelsize=SMALL)
        return figure


def _path_run(spec: Mapping[str, Any], results: Path) -> LossRun:
    """IFGS where the table has it, else CE-sign at equal perturbation, which makes the same steps without a ball.

    Raises:
        ValueError: the table has neither.
    """
    part = spec["part"]
    rows = [row for row in part["rows"] if row["attack"] == "ifgs"]
    if rows:
        return read_loss(rows[0], attacks_of(part, results))
    for setting, runs in by_setting(read_losses(part, results)):
        if setting == "equal_perturbation" and "cross_entropy_sign" in runs:
            return runs["cross_entropy_sign"]
    raise ValueError(
        f"figure {spec['name']!r} shows steps by the sign: table {part['table']!r} has neither IFGS nor CE-sign"
    )


def _draw_softmax(axes: Axes, run: LossRun) -> None:
    """Means with quartiles; behind them the sub-space that the means are in."""
    steps = np.arange(run.steps + 1)
    means = {name: run.curves[f"softmax_{name}"].mean(axis=0) for name in ("initial", "target")}
    where = _spaces(means["initial"], means["target"])
    # Half a step to either side, so that neighbouring areas meet.
    edges = [-0.5, *(np.flatnonzero(np.diff(where)) + 0.5), run.steps + 0.5]
    for begin, end in pairwise(edges):
        space = int(where[int(begin + 0.5)])
        axes.axvspan(begin, end, color=SPACES[space - 1], linewidth=0)
        middle = (max(begin, 0) + min(end, run.steps)) / 2
        axes.text(middle, 1.03, f"S{space}", ha="center", fontsize=SMALL, color=INK)
    for name, colour, dashes in (
        ("initial", INK, DASHES["cross_entropy_sign"]),
        ("target", COLOURS["cross_entropy"], "-"),
    ):
        axes.fill_between(steps, *quartiles(run.curves[f"softmax_{name}"]), color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, means[name], color=colour, linestyle=dashes, linewidth=1.4, label=f"{name} class")
    show_legend(axes, loc="best")
    axes.set_ylabel("softmax, mean and quartiles")


def _draw_spaces(axes: Axes, run: LossRun) -> None:
    """The share of the images in each sub-space at each step, on top of each other."""
    where = _spaces(run.curves["softmax_initial"], run.curves["softmax_target"])
    shares = [(where == space).mean(axis=0) for space in (3, 2, 1)]
    axes.stackplot(np.arange(run.steps + 1), shares, colors=_DARKER[::-1], linewidth=0)
    axes.plot(run.curves["reached"].mean(axis=0), color=INK, linewidth=1, linestyle=":", label="decided as the target")
    shown = [Patch(facecolor=colour, label=f"S{1 + number}") for number, colour in enumerate(_DARKER)]
    show_legend(axes, loc="lower right", handles=[*shown, *axes.get_lines()])
    axes.set_ylabel("share of the images")


_DARKER = ("#9db3cc", "#e8d998", "#9ccfb0")
"""The colours of the sub-spaces where nothing is drawn over them."""


def _spaces(initial: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.int64]:
    """1, 2 or 3 for each pair of softmaxes: S1 where the initial class is certain, S3 where the target is."""
    return np.where(target >= SURE, 3, np.where(initial >= SURE, 1, 2))


def path_words(spec: Mapping[str, Any], results: Path) -> str:
    """What the figure of a path shows, and how it ends."""
    run = _path_run(spec, results)
    name = attack_name(run.row["attack"]) if run.row["attack"] == "ifgs" else "CE-sign at equal perturbation"
    where = _spaces(run.curves["softmax_initial"], run.curves["softmax_target"])
    first, last = int((where[:, 0] == 1).sum()), int((where[:, -1] == 3).sum())
    return (
        f"{len(run.records)} images under {name}, {run.steps} steps. Left: mean softmax of the class decided at first "
        f"and of the target, with quartiles; behind it the sub-space of the means. Right: the share of the images in "
        f"each, and that of the images decided as the target. S1: softmax of the initial class at least {SURE}; S3: "
        f"that of the target at least {SURE}; S2: neither. Before the first step {first} images are in S1, after "
        f"the last one {last} in S3; the target's mean softmax is then "
        f"{fixed(run.curves['softmax_target'][:, -1].mean())}."
    )


def draw_magnitude(spec: Mapping[str, Any], results: Path) -> Figure:
    """The length of each loss's gradient over the steps, and the share of images whose gradient is exactly zero."""
    runs = _equal_multiplier(spec, results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, _HEIGHT))
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        figure.subplots_adjust(**_EDGES, wspace=0.24)
        for loss, run in runs.items():
            lengths, look = run.curves["gradient_magnitude"], {"color": COLOURS[loss], "linestyle": DASHES[loss]}
            steps = np.arange(run.steps + 1)
            left.fill_between(steps, *quartiles(lengths), color=COLOURS[loss], alpha=0.15, linewidth=0)
            left.plot(steps, np.median(lengths, axis=0), **look, linewidth=1.3, label=LOSSES[loss])
            right.plot(steps, (lengths == 0).mean(axis=0), **look, linewidth=1.3)
        last = max(run.steps for run in runs.values())
        left.set(yscale="log", ylabel="L2 norm, median and quartiles", xlabel="step", xlim=(0, last))
        right.set(ylabel="share exactly 0", xlabel="step", xlim=(0, last), ylim=(-0.02, 1.02))
        for axes in (left, right):
            axes.tick_params(labelsize=SMALL)
            axes.grid(color=GREY, alpha=0.2, linewidth=0.4)
        show_legend(right, loc="upper left", handles=left.get_lines())
        return figure


def _equal_multiplier(spec: Mapping[str, Any], results: Path) -> dict[str, LossRun]:
    runs = dict(by_setting(read_losses(spec["part"], results)))
    if "equal_multiplier" not in runs:
        raise ValueError(
            f"figure {spec['name']!r} shows equal multipliers: table {spec['part']['table']!r} has no such row"
        )
    return runs["equal_multiplier"]


def magnitude_words(spec: Mapping[str, Any], results: Path) -> str:
    """What the figure of gradient lengths shows, and from where to where they go."""
    runs = _equal_multiplier(spec, results)
    ends = [f"{LOSSES[loss]} {' to '.join(length(value) for value in _ends(run))}" for loss, run in runs.items()]
    images = len(next(iter(runs.values())).records)
    return (
        f"{images} images, {SETTINGS['equal_multiplier']}. Left: the L2 norm of what each loss adds before the "
        "multiplier (the gradient by the image, for CE-sign its sign), median and quartiles over the images; a line "
        "that leaves the panel below is 0. Right: the share of images whose gradient is exactly 0 in single precision, "
        "which for M-logit is its end (kappa). An image that nothing moves any more keeps its last value. Medians, "
        f"first to last step: {listed(ends)}."
    )


def _ends(run: LossRun) -> tuple[float, float]:
    medians = np.median(run.curves["gradient_magnitude"], axis=0)
    return float(medians[0]), float(medians[-1])
