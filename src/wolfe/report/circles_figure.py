"""Draws how long the gradients of four losses are in a plane of two classes (Ozbulak et al. 2020, Figure 6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wolfe.reading.tables import read_table
from wolfe.report.drawing import GREY, INK, RED, STYLE, WIDTH
from wolfe.report.losses_runs import LOSSES
from wolfe.report.losses_style import COLOURS, DASHES, SMALL, SPACES
from wolfe.report.records import verified_run
from wolfe.report.words import length, listed, scientific, sentence

_HEIGHT = 4.3
_MAP = "cividis"
_TINY = 1e-6
_SIDE, _LEFT, _ACROSS = 1.62, 0.36, 2.3
_TOPS = (0.24, 2.45)
"""Panels in inches: their side, where the first column begins, from column to column, and where the rows begin."""


def read_circles(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, Mapping[str, Any]]:
    """The map, the points and the run that `experiments.circles` wrote.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged; the message names it.
    """
    names = ("records.parquet", "points.parquet")
    run = verified_run(Path(folder), names, "run this experiment")
    grid, points = (read_table(Path(folder) / name) for name in names)
    return grid, points, run


def draw(spec: Mapping[str, Any], results: Path) -> Figure:
    """The points with the sub-spaces, a map for each loss, and a cut through the middle.

    Args:
        spec: the figure, with its resolved `experiment`.
        results: `results/<study>`.
    """
    grid, points, _ = read_circles(_folder(spec, results))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, _HEIGHT))
        FigureCanvasAgg(figure)
        panels = [_panel(figure, row, column) for row in range(2) for column in range(3)]
        _draw_points(panels[0], grid, points)
        most = max(grid[name].max() for name in ("cross_entropy", "logit", "m_logit"))
        for loss, axes, letter in zip(LOSSES, panels[1:], "bcde", strict=False):
            _draw_map(axes, grid, loss, letter, np.sqrt(2) if loss == "cross_entropy_sign" else most)
        _draw_cut(panels[5], grid)
        return figure


def _panel(figure: Figure, row: int, column: int) -> Axes:
    width, height = figure.get_size_inches()
    left, top = _LEFT + column * _ACROSS, _TOPS[row]
    axes = figure.add_axes((left / width, 1 - (top + _SIDE) / height, _SIDE / width, _SIDE / height))
    axes.tick_params(labelsize=SMALL)
    return axes


def _folder(spec: Mapping[str, Any], results: Path) -> Path:
    return Path(results) / "experiments" / str(spec["experiment"]["name"])


def _draw_points(axes: Axes, grid: pd.DataFrame, points: pd.DataFrame) -> None:
    """The sub-spaces as areas, the boundary as a line, and the points of both classes."""
    space, softmax = _square(grid, "space"), _square(grid, "softmax_target")
    extent = _extent(grid)
    axes.imshow(space.to_numpy(), cmap=ListedColormap(SPACES), vmin=1, vmax=3, origin="lower", extent=extent)
    axes.contour(softmax.columns, softmax.index, softmax.to_numpy(), levels=[0.5], colors=[INK], linewidths=1)
    for label, colour, marker in ((0, INK, "o"), (1, RED, "^")):
        part = points[points["label"] == label]
        axes.plot(part["x"], part["y"], marker, color=colour, markersize=1.6, markeredgewidth=0)
    shown = [
        Patch(facecolor=colour, edgecolor=GREY, linewidth=0.4, label=f"S{1 + i}") for i, colour in enumerate(SPACES)
    ]
    axes.legend(handles=shown, loc="lower right", fontsize=SMALL, handlelength=1, borderpad=0.3, labelspacing=0.25)
    axes.set_title("(a) points, boundary, sub-spaces", fontsize=STYLE["font.size"])


def _draw_map(axes: Axes, grid: pd.DataFrame, loss: str, letter: str, most: float) -> None:
    """The length of one loss's gradient, from 0 to `most`, with the bounds of the sub-spaces."""
    lengths, space = _square(grid, loss), _square(grid, "space")
    shown = axes.imshow(lengths.to_numpy(), cmap=_MAP, vmin=0, vmax=most, origin="lower", extent=_extent(grid))
    axes.contour(space.columns, space.index, space.to_numpy(), levels=[1.5, 2.5], colors=["white"], linewidths=0.6)
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes((1.03, 0, 0.05, 1)))
    bar.ax.tick_params(labelsize=SMALL, pad=2)
    axes.set_title(f"({letter}) {LOSSES[loss]}", fontsize=STYLE["font.size"])


def _draw_cut(axes: Axes, grid: pd.DataFrame) -> None:
    """All four lengths along the horizontal line through the middle, on a logarithmic axis."""
    middle = grid[grid["y"] == grid["y"].iloc[grid["y"].abs().argmin()]]
    for space, colour in enumerate(SPACES, start=1):
        inside = (middle["space"] == space).to_numpy()
        axes.fill_between(
            middle["x"], 0, 1, where=inside, step="mid", color=colour, transform=axes.get_xaxis_transform()
        )
    for loss in LOSSES:
        axes.plot(middle["x"], middle[loss], color=COLOURS[loss], linestyle=DASHES[loss], linewidth=1.1)
    axes.set(yscale="log", xlim=(middle["x"].min(), middle["x"].max()))
    lines = [Line2D([], [], color=COLOURS[loss], linestyle=DASHES[loss], label=LOSSES[loss]) for loss in LOSSES]
    axes.legend(handles=lines, loc="lower right", fontsize=SMALL, borderpad=0.3, labelspacing=0.25, handlelength=2.2)
    axes.set_title("(f) along the line y = 0", fontsize=STYLE["font.size"])


def _square(grid: pd.DataFrame, name: str) -> pd.DataFrame:
    """A column of the grid as a square: y by x."""
    return grid.pivot_table(index="y", columns="x", values=name, sort=True)


def _extent(grid: pd.DataFrame) -> tuple[float, float, float, float]:
    half = (grid["x"].max() - grid["x"].min()) / (2 * (grid["x"].nunique() - 1))
    low, high = grid["x"].min() - half, grid["x"].max() + half
    return low, high, low, high


def caption(spec: Mapping[str, Any], results: Path) -> str:
    """What the figure shows, and what follows from its numbers."""
    grid, _, run = read_circles(_folder(spec, results))
    options, sure = run["options"], run["sure"]
    first, third = grid[grid["space"] == 1], grid[grid["space"] == 3]
    return " ".join(
        [
            sentence(str(spec["title"])),
            f"{run['images']} points on two circles (noise {options['noise']:g}, radii 1 and {options['factor']:g}), "
            f"the inner one (red triangles) being the target; a network with {options['hidden']} hidden neurons is "
            f"right about {100 * run['accuracy']:.1f} % of them. Bounds of the sub-spaces (white in the maps): the "
            f"softmax of the target is at most {1 - sure:.2g} in S1 and at least {sure:g} in S3. The maps show the L2 "
            f"norm of each loss's gradient by the two coordinates, in single precision at {len(grid):,} points, the "
            "sign's on a scale of its own, M-logit without its end.",
            _findings(first, third, grid),
        ]
    )


def _findings(first: pd.DataFrame, third: pd.DataFrame, grid: pd.DataFrame) -> str:
    if first.empty or third.empty:
        return "The network is nowhere certain of one of the classes, so that there is no S1 or no S3."
    fading, flat = third["cross_entropy"], int((grid["logit"] == 0).sum())
    longer = (first["cross_entropy"] > first["logit"]).mean()
    signs = (third["cross_entropy_sign"] == 0).mean()
    facts = [
        f"CE is exactly 0 at {_percent((fading == 0).mean())} of the points in S3 and below {scientific(_TINY)} at "
        f"{_percent((fading < _TINY).mean())} of them (median {length(fading.median())}, least "
        f"{length(fading.min())}, against a median of {length(first['cross_entropy'].median())} in S1)",
        f"its sign is 0 at {_percent(signs)} of them",
        f"the logit's gradient is 0 at {flat:,} points of the whole map (least {length(grid['logit'].min())})",
        f"CE is longer than the logit's at {_percent(longer)} of the points in S1",
    ]
    return f"{sentence(listed(facts))}"


def _percent(value: float) -> str:
    """Percent that read 100 or 0 only where it is so exactly."""
    return f"{100 * value:.0f} %" if value in (0, 1) else f"{min(max(100 * value, 0.1), 99.9):.1f} %"
