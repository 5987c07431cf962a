"""A figure of one setting: softmax and logits of both classes under each loss, and how far the first change lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from wolfe.report.drawing import GREY, INK, STYLE, WIDTH
from wolfe.report.losses_runs import LOSSES, SETTINGS, LossRun, by_setting, read_losses
from wolfe.report.losses_style import COLOURS, SMALL, quartiles, show_legend
from wolfe.report.words import listed, significant

_HEIGHT = 5.0
_TITLE = STYLE["font.size"]
_KINDS = (("softmax", "(a) softmax"), ("logit", "(b) logits"))
_NORMS = (("l2", "L2"), ("linf", "Linf"))


def draw_setting(spec: Mapping[str, Any], results: Path) -> Figure:
    """Softmax above, logits below, a column for each loss; then boxes of L2 and Linf at the first change."""
    runs = _runs(spec, results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, _HEIGHT))
        FigureCanvasAgg(figure)
        above = figure.add_gridspec(
            2, len(runs), left=0.08, right=0.985, bottom=0.44, top=0.94, wspace=0.13, hspace=0.16
        )
        panels = above.subplots(sharex=True, sharey="row", squeeze=False)
        for column, run in enumerate(runs.values()):
            for row, (kind, _) in enumerate(_KINDS):
                _draw_curves(panels[row, column], run, kind)
            panels[0, column].set_title(LOSSES[run.loss], fontsize=_TITLE, color=COLOURS[run.loss])
            panels[1, column].set_xlabel("step", fontsize=SMALL)
        for row, (_, words) in enumerate(_KINDS):
            panels[row, 0].set_ylabel(words)
        show_legend(panels[0, 0], loc="center right")
        below = figure.add_gridspec(1, 2, left=0.08, right=0.985, bottom=0.07, top=0.3, wspace=0.16).subplots(
            squeeze=False
        )
        for axes, (name, words) in zip(below[0], _NORMS, strict=True):
            _draw_boxes(axes, list(runs.values()), name)
            axes.set_title(f"(c) {words} at the first change", fontsize=_TITLE)
        return figure


def _runs(spec: Mapping[str, Any], results: Path) -> dict[str, LossRun]:
    """The runs of the setting by loss.

    Raises:
        ValueError: the table has none.
    """
    runs = dict(by_setting(read_losses(spec["part"], results)))
    if spec["setting"] not in runs:
        raise ValueError(
            f"figure {spec['name']!r}: table {spec['part']['table']!r} has no row with {spec['setting']!r} and "
            f"stop_at_success false; it has {listed(list(runs))}"
        )
    return runs[spec["setting"]]


def _draw_curves(axes: Axes, run: LossRun, kind: str) -> None:
    """Means and quartiles of both classes, and the mean step of the first change."""
    steps = np.arange(run.steps + 1)
    for name, colour, dashes in (("initial", INK, (0, (4, 1.4))), ("target", COLOURS[run.loss], "-")):
        values = run.curves[f"{kind}_{name}"]
        axes.fill_between(steps, *quartiles(values), color=colour, alpha=0.18, linewidth=0)
        axes.plot(steps, values.mean(axis=0), color=colour, linestyle=dashes, linewidth=1.2, label=name)
    if not np.isnan(run.first).all():
        axes.axvline(float(np.nanmean(run.first)), color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, run.steps)
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(labelsize=SMALL)
    axes.grid(color=GREY, alpha=0.2, linewidth=0.4)


def _draw_boxes(axes: Axes, runs: list[LossRun], name: str) -> None:
    """A box for each loss, over the images that change."""
    values = [run.at_first(name) for run in runs]
    known = [found[~np.isnan(found)] for found in values]
    boxes = axes.boxplot(known, widths=0.5, patch_artist=True, flierprops={"markersize": 2.5, "markeredgewidth": 0.5})
    for box, middle, run in zip(boxes["boxes"], boxes["medians"], runs, strict=True):
        box.set(facecolor=COLOURS[run.loss], alpha=0.55, linewidth=0.7)
        middle.set(color=INK, linewidth=1.2)
    names = [f"{LOSSES[run.loss]}\n{len(found)} of {len(run.first)}" for run, found in zip(runs, known, strict=True)]
    axes.set_xticks(range(1, len(runs) + 1), names)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=SMALL)
    axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.4)


def setting_words(spec: Mapping[str, Any], results: Path) -> str:
    """What the figure of a setting shows."""
    runs = _runs(spec, results)
    first = next(iter(runs.values()))
    far = [
        f"{LOSSES[loss]} {significant(_median(run, 'l2'))} and {significant(_median(run, 'linf'))}"
        for loss, run in runs.items()
    ]
    return (
        f"{len(first.records)} images, {SETTINGS[spec['setting']]}, {first.steps} steps. (a), (b): mean and quartiles "
        "of softmax and logit of the class decided at first (dashed) and of the target; dotted is the mean step of the "
        "first change to the target, of the images that change. An image that nothing moves any more keeps its last "
        "values. (c): L2 and Linf at the first change, of so many of all images; boxes from quartile to quartile, "
        "whiskers up to 1.5 times as long, others as points. Medians of L2 and Linf: "
        f"{listed(far)}."
    )


def _median(run: LossRun, name: str) -> float:
    values = run.at_first(name)
    return float("nan") if np.isnan(values).all() else float(np.nanmedian(values))
