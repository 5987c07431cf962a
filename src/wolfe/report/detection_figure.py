"""Draws the ROC curves of detectors: one panel a detector, one curve an attack, learnt from or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from wolfe.detection_lines import POOLED, half_and_half
from wolfe.report.detection import attack_rows, auc, read_detection
from wolfe.report.drawing import GREY, INK, STYLE, WIDTH
from wolfe.report.words import MISSING, fixed, sentence, stands_in

# Okabe and Ito's colours, which colour-blind readers can tell apart, the pale yellow left out.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK)
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))
_SMALL, _MOST = 6.5, 5
_LEFT, _RIGHT, _GAP, _TITLE, _BELOW, _LINE = 0.42, 0.06, 0.12, 0.24, 0.36, 0.12


def draw(spec: Mapping[str, Any], results: Path) -> Figure:
    """The curves of the pooled detectors on 8-bit images: above the attacks learnt from, below the others.

    Args:
        spec: the figure, with its resolved `experiment`.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: the experiment has not been run.
        ValueError: it is damaged, or lacks a detector or an attack.
    """
    experiment = spec["experiment"]
    said = read_detection(results, experiment).said(POOLED)
    names = [str(detector["name"]) for detector in experiment["detectors"]]
    groups = _groups(experiment)
    rows = [(labels, heading, part) for labels, heading in groups for part in _parts(names)]
    with mpl.rc_context(STYLE):
        side = (WIDTH - _LEFT - _RIGHT - (min(len(names), _MOST) - 1) * _GAP) / min(len(names), _MOST)
        heights = [_TITLE + side + _BELOW + _LINE * len(labels) for labels, _, _ in rows]
        figure = Figure(figsize=(WIDTH, sum(heights)))
        FigureCanvasAgg(figure)
        top = 0.0
        for (labels, heading, part), height in zip(rows, heights, strict=True):
            for place, name in enumerate(part):
                axes = _axes(figure, _LEFT + place * (side + _GAP), top + _TITLE, side)
                own = said[said["detector"] == name]
                _panel(axes, side, name, own, labels, "" if place else heading)
            top += height
        return figure


def _groups(experiment: Mapping[str, Any]) -> list[tuple[list[str], str]]:
    """The attacks learnt from and those only tested on, with what stands beside their panels."""
    rows = attack_rows(experiment)
    groups = [
        ([row["label"] for row in rows if row["learnt"]], "attacks learnt from"),
        ([row["label"] for row in rows if not row["learnt"]], "attacks never seen"),
    ]
    return [group for group in groups if group[0]]


def _parts(names: Sequence[str]) -> list[Sequence[str]]:
    """The detectors in rows of at most five."""
    return [names[start : start + _MOST] for start in range(0, len(names), _MOST)]


def _axes(figure: Figure, left: float, top: float, side: float) -> Axes:
    """Square axes, measured in inches from the upper left corner."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, 1 - (top + side) / height, side / width, side / height))


def _panel(axes: Axes, side: float, name: str, said: pd.DataFrame, labels: Sequence[str], heading: str) -> None:
    """One detector: a curve for each attack, its area below the panel; a heading marks the first panel of a row."""
    from sklearn.metrics import roc_curve  # here, since it takes a second and other figures do not need it

    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=":")
    shown = short_names(labels)
    for number, label in enumerate(labels):
        own = half_and_half(said, label)
        if own.empty:  # an attack without a success, see `detection_matrix.lines`
            _key(axes, side, f"{MISSING} {shown[number]}", number)
            continue
        if own["adversarial"].nunique() != 2:
            raise ValueError(f"{name} was not judged on {label} and its genuine images: run this experiment again")
        false, true, _ = roc_curve(own["adversarial"].to_numpy(), own["score"].to_numpy())
        colour, dashes = style(number)
        axes.plot(false, true, color=colour, linestyle=dashes, linewidth=1.2, drawstyle="steps-post", clip_on=False)
        _key(axes, side, f"{fixed(auc(own)[0])} {shown[number]}", number)
    # A little room, so that a curve along the frame can be seen.
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xticklabels(["0", "0.5", "1"])
    axes.set_yticklabels(["0", "0.5", "1"] if heading else [])
    axes.tick_params(length=2, labelsize=_SMALL, pad=1.5)
    axes.set_title(name, fontsize=8, pad=3)
    if heading:
        axes.set_ylabel(f"detected: {heading}", fontsize=_SMALL, labelpad=2)
    axes.set_xlabel("genuine called adversarial", fontsize=_SMALL, labelpad=1)


def short_names(labels: Sequence[str]) -> list[str]:
    """Labels without what stands in brackets, which has no room below a panel, where they still differ then."""
    short = [label.partition(" (")[0] for label in labels]
    return [name if short.count(name) == 1 else label for name, label in zip(short, labels, strict=True)]


def style(number: int) -> tuple[str, Any]:
    """Colour and dashes of a curve: colours first, then the same ones dashed."""
    return _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]


def _key(axes: Axes, side: float, text: str, number: int) -> None:
    """A curve's name and area below its panel, whose side is given in inches."""
    colour, dashes = style(number)
    y = -(_BELOW - 0.06 + (number + 0.5) * _LINE) / side
    axes.plot([0, 0.1], [y, y], color=colour, linestyle=dashes, linewidth=1.2, transform=axes.transAxes, clip_on=False)
    axes.text(0.14, y, text, fontsize=_SMALL, transform=axes.transAxes, va="center_baseline", color=INK)


def caption(spec: Mapping[str, Any], results: Path) -> str:
    """The figure's caption.

    Args:
        spec: the figure, with its resolved `experiment`.
        results: `results/<study>`.
    """
    experiment = spec["experiment"]
    said = read_detection(results, experiment).said(POOLED)
    counts = [half_and_half(said, row["label"])["image_id"].nunique() for row in attack_rows(experiment)]
    images = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    (learnt, _), *unseen = _groups(experiment)
    return " ".join(
        part
        for part in (
            sentence(str(spec["title"])),
            f"Detectors trained on the images of {len(learnt)} attacks on {experiment['source']} together, as 8-bit "
            f"images; {images} images of {experiment['dataset']} for each attack, of which no version was learnt from, "
            "and the genuine versions of the same images.",
            "Above: the attacks learnt from; below: attacks never seen in training." if unseen else "",
            "Before each attack's name stands the area under its curve; the dotted line is guessing.",
            stands_in(str(spec.get("stands_in") or experiment.get("stands_in") or "")),
        )
        if part
    )
