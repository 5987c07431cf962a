"""Figures of attacks followed step by step and of experiments: one module each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from wolfe.report import circles_figure, detection_figure, losses_figures, softmax_figures


@dataclass(frozen=True)
class Chart:
    """How figures of one kind are made.

    Attributes:
        draw: from the spec and `results/<study>` to the figure.
        caption: from the same to its caption, which begins with the title.
    """

    draw: Callable[[Mapping[str, Any], Path], Figure]
    caption: Callable[[Mapping[str, Any], Path], str]


CHARTS = {
    "losses": Chart(losses_figures.draw, losses_figures.caption),
    "circles": Chart(circles_figure.draw, circles_figure.caption),
    "detection_roc": Chart(detection_figure.draw, detection_figure.caption),
    "softmax_examples": Chart(softmax_figures.draw_examples, softmax_figures.caption_examples),
    "softmax_curves": Chart(softmax_figures.draw_curves, softmax_figures.caption_curves),
}
