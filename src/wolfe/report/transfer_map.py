"""Draws a table of transfer as a heat map: every attack on every classifier, against every classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wolfe.names import attack_name
from wolfe.report.derived import read_derived
from wolfe.report.drawing import INK, STYLE, WIDTH, text_width
from wolfe.report.transfer_findings import FEWEST, edges_of, levels_of, pooled
from wolfe.report.words import encoding_name, listed, sentence, significant, stands_in

_CELL, _GAP, _MARGIN, _TITLE, _SMALL = 0.155, 0.14, 0.06, 0.3, 6.5
_COLOURS, _NEUTRAL = "YlGnBu", "#dcdcdc"
# Shares above this are dark enough for white figures.
_DARK = 0.55


@dataclass(frozen=True)
class _Panel:
    """A matrix of shares (attacks, columns), NaN where nothing counts.

    `own` marks cells of attacked classifiers, `few` those that rest on fewer than ten examples.
    """

    title: str
    headers: list[str]
    shares: NDArray[np.float64]
    own: NDArray[np.bool_]
    few: NDArray[np.bool_]


def draw_transfer(spec: Mapping[str, Any], results: Path) -> Figure:
    """The heat map of a table of transfer.

    Args:
        spec: the figure, with its resolved `table`.
        results: `results/<study>`, where the table has been made.

    Raises:
        FileNotFoundError: the table has not been made.
        ValueError: it is damaged or holds other lines than the study.
    """
    table = read_transfer_table(spec, results)
    sets = [part for _, part in table.groupby("set", sort=False)]
    rows = [part[["model", "attack"]].drop_duplicates() for part in sets]
    models = {entry["name"]: [model["name"] for model in entry["models"]] for entry in spec["table"]["transfers"]}
    head = _TITLE + _slanted([name for names in models.values() for name in names])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(head + len(lines) * _CELL for lines in rows) + _MARGIN))
        FigureCanvasAgg(figure)
        top = 0.0
        for part, lines in zip(sets, rows, strict=True):
            names = models[str(part["set"].iloc[0])]
            _draw_set(figure, part, names, list(lines.itertuples(index=False, name=None)), top + head, head)
            top += head + len(lines) * _CELL
        return figure


def read_transfer_table(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """The table that a figure of transfer shows; see `read_derived` for what may be wrong with it."""
    table = spec["table"]
    return read_derived(table, Path(results) / "tables" / f"{table['name']}.csv")


def _slanted(texts: Sequence[str]) -> float:
    """The height, and the width, in inches of the longest of some small texts at an angle of 45 degrees."""
    return max(_small_width(text) for text in texts) / math.sqrt(2) + 0.06


def _small_width(text: str) -> float:
    return text_width(text) * _SMALL / STYLE["font.size"]


def _draw_set(
    figure: Figure,
    part: pd.DataFrame,
    models: Sequence[str],
    rows: Sequence[tuple[str, str]],
    top: float,
    head: float,
) -> None:
    """One set of classifiers: its matrices beside each other, `top` inches below the upper edge of the figure."""
    panels = _panels(part, models, rows)
    columns = sum(len(panel.headers) for panel in panels)
    left = max(_small_width(_row_name(row)) for row in rows) + _MARGIN + 0.06
    wide = (WIDTH - left - _slanted(panels[-1].headers) - (len(panels) - 1) * _GAP) / columns
    size = figure.get_size_inches()
    for number, panel in enumerate(panels):
        width, height = wide * len(panel.headers), _CELL * len(rows)
        box = (left / size[0], 1 - (top + height) / size[1], width / size[0], height / size[1])
        axes = figure.add_axes(box)
        _draw_panel(axes, panel, rows, first=number == 0)
        middle = (left + width / 2) / size[0], 1 - (top - head + _TITLE / 2) / size[1]
        figure.text(*middle, panel.title, ha="center", va="center", fontsize=_SMALL + 1)
        left += width + _GAP


def _panels(part: pd.DataFrame, models: Sequence[str], rows: Sequence[tuple[str, str]]) -> list[_Panel]:
    """The matrices of a set of classifiers: targeted, untargeted, bit by bit, and by level of distortion."""
    groups = {row: part[(part["model"] == row[0]) & (part["attack"] == row[1])] for row in rows}
    own = np.array([[model == name for name in models] for model, _ in rows])
    panels = []
    for title, name, total in (
        ("targeted", "targeted", "counted"),
        ("untargeted", "untargeted", "counted"),
        ("bits reached", "bits_reached", "bits_asked"),
    ):
        shares = np.array([[_share(groups[row], model, name, total) for model in models] for row in rows])
        few = np.array([[_examples(groups[row], model) < FEWEST for model in models] for row in rows])
        # Classifiers of classes have no bits.
        if np.isfinite(shares).any():
            panels.append(_Panel(title, list(models), shares, own, few))
    edges = [f"up to {significant(edge)}" for edge in edges_of(part)]
    by_level = [
        [pooled(groups[row], f"level_{level}_untargeted", f"level_{level}_counted") for level in levels_of(part)]
        for row in rows
    ]
    counts = [[int(groups[row][f"level_{level}_counted"].sum()) for level in levels_of(part)] for row in rows]
    nobody = np.zeros((len(rows), len(edges)), bool)
    return [*panels, _Panel("untargeted by L2", edges, np.array(by_level), nobody, np.array(counts) < FEWEST)]


def _examples(group: pd.DataFrame, model: str) -> int:
    """How many examples a cell rests on."""
    own = model == group["model"].iloc[0]
    lines = group.drop_duplicates("table") if own else group[group["other"] == model]
    return int(lines["examples" if own else "counted"].sum())


def _share(group: pd.DataFrame, model: str, name: str, total: str) -> float:
    """The share of one cell: on the attacked classifier that of its own successes, where it has that meaning."""
    if model != group["model"].iloc[0]:
        return pooled(group[group["other"] == model], name, total)
    own = group.drop_duplicates("table")
    share = (own["own_share"] * own["examples"]).sum() / own["examples"].sum()
    return float(share) if name == "targeted" else float("nan")


def _draw_panel(axes: Axes, panel: _Panel, rows: Sequence[tuple[str, str]], first: bool) -> None:
    shares = np.ma.masked_invalid(panel.shares)
    axes.imshow(shares, cmap=_COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (row, column), share in np.ndenumerate(panel.shares):
        own = panel.own[row, column]
        if own:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=_NEUTRAL, edgecolor="none"))
        if np.isfinite(share):
            colour = INK if own or share < _DARK else "white"
            number = f"({100 * share:.0f})" if panel.few[row, column] else f"{100 * share:.0f}"
            text = axes.text(column, row, number, color=colour, fontsize=_SMALL)
            text.set(horizontalalignment="center", verticalalignment="center_baseline")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(panel.headers)), panel.headers, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [_row_name(row) for row in rows] if first else [""] * len(rows))
    axes.tick_params(length=0, labelsize=_SMALL, pad=2)
    for row, ((before, _), (after, _)) in enumerate(pairwise(rows)):
        if before != after:
            axes.axhline(row + 0.5, color="white", linewidth=2)


def _row_name(row: tuple[str, str]) -> str:
    return f"{row[0]}  {attack_name(row[1])}"


def transfer_caption(spec: Mapping[str, Any], table: pd.DataFrame) -> str:
    """The caption of a heat map.

    Args:
        spec: the figure, with its resolved `table`.
        table: the table that it shows.
    """
    kinds = listed([encoding_name(str(kind)) for kind in dict.fromkeys(table["encoding"])])
    return " ".join(
        part
        for part in (
            sentence(str(spec["title"])),
            f"Rows: the attacked classifier ({kinds}) and the attack, over all its tables and rows; columns: the "
            "classifiers that were asked about the images. Numbers are percent of the examples that count (see the "
            f"table {spec['table']['name']}): targeted, untargeted, and of the bits asked for those that are reached, "
            "empty where there are none, in brackets where there are fewer than ten.",
            "Grey cells belong to the attacked classifier itself: the share of all its images that reached their "
            "target. On the right untargeted transfer to all others by L2, in levels with as many successes each.",
            stands_in(str(spec["table"].get("stands_in") or "")),
        )
        if part
    )
