"""Draws how strong examples look against how many of them transfer (Ozbulak et al. 2018, Figures 3 to 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wolfe.report.drawing import GREY, INK, STYLE, WIDTH
from wolfe.report.softmax_examples import caption_examples, draw_examples, shown_kinds
from wolfe.report.softmax_records import KINDS, Curve, aggregated, examples_of, kept, pairs_of, read_softmax
from wolfe.report.words import listed, sentence

__all__ = ["caption_curves", "caption_examples", "draw_curves", "draw_examples"]

_ACTIVATION, _SOFTMAX = "#0072b2", "#d55e00"
_HEIGHT, _LEGEND, _MOST_COLUMNS = 1.75, 0.42, 3


@dataclass(frozen=True)
class _Panel:
    """What one panel shows: a kind of examples, a pair of models, and how many examples stay of how many."""

    kind: str
    source: str
    other: str
    kept: int
    images: int
    activation: Curve
    softmax: Curve


def draw_curves(spec: Mapping[str, Any], results: Path) -> Figure:
    """Highest logit and softmax of the attacked model against the share of examples that transfer.

    Args:
        spec: the figure: `experiment`, `which` ("over_optimised", "multi_class" or "both"), where not all ordered
            pairs of models are shown `pairs`, and `transfer`: whether an example transfers when the other model
            decides for a class that was asked for ("target", the usual), or for any wrong one ("any_class").
        results: `results/<study>`.

    Raises:
        FileNotFoundError: the experiment has not been run.
        ValueError: its records are damaged, or lack a pair.
    """
    panels = _panels(spec, read_softmax(results, spec["experiment"]["name"])[0])
    columns = 2 if len(shown_kinds(spec)) == 2 else min(_MOST_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        height = rows * (_HEIGHT if columns == _MOST_COLUMNS else 1.3 * _HEIGHT) + _LEGEND
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
        shown: list[Artist] = []
        for number, (panel, place) in enumerate(zip(panels, axes.flat, strict=False)):
            column = number % columns
            artists = _draw(place, panel, first=column == 0, last=column == columns - 1 or number == len(panels) - 1)
            shown = shown or artists
        for place in axes.flat[len(panels) :]:
            place.set_visible(False)
        figure.supxlabel("examples that transfer (%)", fontsize=STYLE["font.size"], color=INK)
        names = [str(artist.get_label()) for artist in shown]
        figure.legend(shown, names, loc="outside upper center", ncols=2, frameon=False)
        return figure


def _panels(spec: Mapping[str, Any], records: pd.DataFrame) -> list[_Panel]:
    """The panels from left to right: pair by pair, and of each pair the kinds."""
    wanted = [(str(source), str(other)) for source, other in spec.get("pairs") or pairs_of(spec["experiment"])]
    any_class = spec.get("transfer", "target") == "any_class"
    return [_panel(records, kind, *pair, any_class) for pair in wanted for kind in shown_kinds(spec)]


def _panel(records: pd.DataFrame, kind: str, source: str, other: str, any_class: bool) -> _Panel:
    """One panel, its data cleaned: what does not transfer after the last step is left out."""
    examples = examples_of(records, kind, source, other)
    transferred = examples.changed if any_class else examples.transferred
    stay = kept(transferred)
    transferred = transferred[stay]
    curves = [aggregated(transferred, examples.measures[name][stay]) for name in ("activation", "softmax")]
    return _Panel(kind, source, other, int(stay.sum()), len(stay), curves[0], curves[1])


def _draw(axes: Axes, panel: _Panel, first: bool, last: bool) -> list[Artist]:
    """One panel: the logit by the axis on the left, the softmax by the one on the right."""
    right = axes.twinx()
    axes.set_title(
        f"{panel.source} \N{RIGHTWARDS ARROW} {panel.other}\n{KINDS[panel.kind].lower()}, "
        f"{panel.kept} of {panel.images} kept",
        fontsize=7,
        color=INK,
    )
    axes.set(xlim=(-3, 103), xticks=[0, 25, 50, 75, 100])
    right.set(ylim=(0, 1.06), yticks=[0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(labelsize=6.5, length=2, axis="y", colors=_ACTIVATION)
    axes.tick_params(labelsize=6.5, length=2, axis="x")
    right.tick_params(labelsize=6.5, length=2, colors=_SOFTMAX, labelright=last)
    if first:
        axes.set_ylabel("highest logit", color=_ACTIVATION)
    if last:
        right.set_ylabel("softmax", color=_SOFTMAX)
    if not panel.kept:
        axes.text(50, 0.5, "no example transfers\nafter the last step", ha="center", va="center", color=GREY)
        axes.set(ylim=(0, 1), yticks=[])
        return []
    artists = [
        _curve(axes, panel.activation, _ACTIVATION, "-", "highest logit (left)"),
        _curve(right, panel.softmax, _SOFTMAX, "--", "its softmax (right)"),
    ]
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(panel.activation.mean))))
    return artists


def _curve(axes: Axes, curve: Curve, colour: str, style: str, label: str) -> Artist:
    """A mean and its 95 % band."""
    line = axes.plot(
        curve.share, curve.mean, style, color=colour, linewidth=1.2, marker=".", markersize=2.5, label=label
    )[0]
    low, high = curve.mean - curve.half, curve.mean + curve.half
    axes.fill_between(curve.share, low, high, color=colour, alpha=0.2, linewidth=0)
    return line


def caption_curves(spec: Mapping[str, Any], results: Path) -> str:
    """The caption of a figure of curves; arguments as of `draw_curves`."""
    records, run = read_softmax(results, spec["experiment"]["name"])
    panels = _panels(spec, records)
    steps, images = int(records["step"].max()), records["image_id"].nunique()
    multipliers = listed([f"{KINDS[kind].lower()}: {_multipliers(run, kind)}" for kind in shown_kinds(spec)])
    meant = "any wrong class" if spec.get("transfer") == "any_class" else "a class that was asked for"
    several = len({(panel.source, panel.other) for panel in panels}) > 1
    pairs = "each panel an attacked model and one that is asked" if several else f"from {_pair(panels)}"
    return " ".join(
        [
            sentence(str(spec["title"])),
            f"Highest logit of the attacked model and its softmax, in single precision, against the share of examples "
            f"that transfer to the other model, which means that it decides for {meant}; {pairs}. {images} test images "
            f"of {spec['experiment']['dataset']} that all of {listed(list(spec['experiment']['models']))} classify "
            f"correctly, {steps} steps, judged in whole grey levels (multipliers of the gradient by the normalised "
            f"input: {multipliers}).",
            "Left out are, for each pair, the examples that do not transfer after the last step; a point is the mean "
            "over the kept ones at the steps at which so many of them transfer, bands are 1.96 standard errors to each "
            "side.",
            _ends(panels),
        ]
    )


def _pair(panels: Sequence[_Panel]) -> str:
    return f"{panels[0].source} to {panels[0].other}"


def _multipliers(run: Mapping[str, Any], kind: str) -> str:
    parameters = run["attacks"][kind]["parameters"]
    names = [name for name in ("smaller_multiplier", "multiplier") if name in parameters]
    return " and ".join(f"{parameters[name]:g}" for name in names)


def _ends(panels: Sequence[_Panel]) -> str:
    """How much is left of each panel, and where softmax and logit are when half of it transfers."""
    left = [f"{panel.source} to {panel.other} {panel.kept}" for panel in panels]
    few = [text for text, panel in zip(left, panels, strict=True) if panel.kept < 10]
    if not few:
        return ""
    return f"Fewer than ten examples are left in {len(few)} of {len(panels)} panels, whose curves say little."
