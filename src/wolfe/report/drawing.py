"""Draws the panels of a figure side by side, measured in inches so that no text runs into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from wolfe.files import atomic_path
from wolfe.report.records import label_indices

INK, GREY, RED, GREEN = "#1a1a1a", "#6b6b6b", "#b3261e", "#1b6e3c"
WIDTH = 7.0
"""Width of a figure in inches: the text width of a two-column paper."""
_FONT_SIZE, _LINE, _GAP, _MARGIN, _LARGEST = 8.0, 0.145, 0.1, 0.04, 1.5
MOST_COLUMNS = 7
"""Panels beside each other: an original and six attacks."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": _FONT_SIZE,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "wolfe",
    "axes.linewidth": 0.6,
}
"""Matplotlib settings of all drawings: one font that comes with matplotlib, and the same bytes for the same drawing."""


@dataclass(frozen=True)
class Line:
    """A line of text in a colour; long ones are wrapped."""

    text: str
    colour: str
    bold: bool = False


@dataclass(frozen=True)
class Panel:
    """A column of a figure.

    Attributes:
        title: what stands above, name and parameters.
        image: (H, W, C) in [0, 1], C one or three.
        failed: whether the image did not reach its target; it gets a red frame.
        below_image: text under it.
        perturbation: a picture of the perturbation, of the same shape, or nothing.
        below_perturbation: text under that.
        note: text in the place of the perturbation where there is none.
        heading: what the labels are called.
        labels: the label list, one line each.
    """

    title: list[Line]
    image: NDArray[np.floating[Any]]
    failed: bool = False
    below_image: list[Line] = field(default_factory=list)
    perturbation: NDArray[np.floating[Any]] | None = None
    below_perturbation: list[Line] = field(default_factory=list)
    note: list[Line] = field(default_factory=list)
    heading: str = ""
    labels: list[Line] = field(default_factory=list)


def label_lines(before: Any, after: Any, class_names: Sequence[str]) -> list[Line]:
    """The labels of a picture against those it had: plus for new ones, minus for lost ones.

    Args:
        before: 0/1 vector.
        after: 0/1 vector of the same length.
        class_names: names of the labels.
    """
    old, new = set(label_indices(before)), set(label_indices(after))
    lines = []
    for index in sorted(old | new):
        name = class_names[index]
        if index in old and index in new:
            lines.append(Line(f"  {name}", GREY))
        elif index in new:
            lines.append(Line(f"+ {name}", GREEN))
        else:
            lines.append(Line(f"\N{MINUS SIGN} {name}", RED))
    return lines or [Line("no label", GREY)]


@dataclass(frozen=True)
class Block:
    """Panels that belong together, with a heading above them or none."""

    panels: Sequence[Panel]
    heading: str = ""


def draw(panels: Sequence[Panel]) -> Figure:
    """A figure of panels beside each other; see `draw_blocks`."""
    return draw_blocks([Block(panels)])


def draw_blocks(blocks: Sequence[Block]) -> Figure:
    """A figure of blocks below each other, at most `MOST_COLUMNS` panels in a row.

    Args:
        blocks: from top to bottom; their panels from left to right. All panels are equally wide.

    Returns:
        The figure, `WIDTH` inches wide or less.
    """
    with mpl.rc_context(STYLE):
        rows = [row for block in blocks for row in _rows(block)]
        columns = max(len(panels) for panels, _ in rows)
        width = min((WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns, _LARGEST)
        whole = columns * width + (columns - 1) * _GAP
        layouts = [_Layout(panels, width, wrap(Line(heading, INK), whole)) for panels, heading in rows]
        figure = Figure(figsize=(2 * _MARGIN + whole, sum(one.height for one in layouts)))
        FigureCanvasAgg(figure)
        top = 0.0
        for layout in layouts:
            layout.draw(figure, top)
            top += layout.height
        return figure


def _rows(block: Block) -> list[tuple[Sequence[Panel], str]]:
    """A block's rows of panels, about equally long; the first one has the heading."""
    count = -(-len(block.panels) // MOST_COLUMNS)
    columns = -(-len(block.panels) // count)
    starts = range(0, len(block.panels), columns)
    return [(block.panels[start : start + columns], "" if start else block.heading) for start in starts]


def save(figure: Figure, out: Path) -> None:
    """Writes a figure as `<out>.pdf` and `<out>.png`, without dates."""
    out = Path(out)
    for kind, options in (("pdf", {"metadata": {"CreationDate": None}}), ("png", {"dpi": 220})):
        with atomic_path(out.with_name(f"{out.name}.{kind}")) as temporary:
            figure.savefig(temporary, format=kind, **options)


class _Layout:
    """Where the parts of one row of panels stand, in inches from its upper edge."""

    def __init__(self, panels: Sequence[Panel], width: float, heading: Sequence[Line] = ()) -> None:
        self.panels, self.width = panels, width
        self.heading = [line for line in heading if line.text]
        self.title_top = _MARGIN + (len(self.heading) * _LINE + 0.08 if self.heading else 0.0)
        self.picture = width * max(panel.image.shape[0] / panel.image.shape[1] for panel in panels)
        self.titles = [self._wrapped(panel.title) for panel in panels]
        self.first = [self._wrapped(panel.below_image) for panel in panels]
        self.second = [self._wrapped(panel.below_perturbation) for panel in panels]
        self.notes = [self._wrapped(panel.note) for panel in panels]
        self.lists = [_Labels(panel, width) for panel in panels]
        self.image_top = self.title_top + _tallest(self.titles) * _LINE + 0.03
        first_text = self.image_top + self.picture + 0.03
        self.first_top = first_text
        self.perturbation_top = first_text + _tallest(self.first) * _LINE + 0.06
        second = self.picture if any(panel.perturbation is not None for panel in panels) else 0.0
        self.second_top = self.perturbation_top + second + 0.03
        below_notes = self.perturbation_top + _tallest(self.notes) * _LINE
        self.list_top = max(self.second_top + _tallest(self.second) * _LINE, below_notes) + 0.08
        self.height = self.list_top + max(one.lines for one in self.lists) * _LINE + 2 * _MARGIN

    def _wrapped(self, lines: list[Line]) -> list[Line]:
        return [part for line in lines for part in wrap(line, self.width)]

    def draw(self, figure: Figure, top: float) -> None:
        """Draws it; `top` is its upper edge in inches."""
        _text(figure, self.heading, _MARGIN, top + _MARGIN, "left")
        if self.heading:
            _rule(figure, top + _MARGIN + len(self.heading) * _LINE + 0.03)
        for number, panel in enumerate(self.panels):
            left = _MARGIN + number * (self.width + _GAP)
            middle = left + self.width / 2
            missing = _tallest(self.titles) - len(self.titles[number])
            _text(figure, self.titles[number], middle, top + self.title_top + missing * _LINE, "center")
            self._image(figure, panel.image, left, top + self.image_top, RED if panel.failed else INK)
            _text(figure, self.first[number], middle, top + self.first_top, "center")
            if panel.perturbation is not None:
                self._image(figure, panel.perturbation, left, top + self.perturbation_top, INK)
            else:
                _text(figure, self.notes[number], left, top + self.perturbation_top, "left")
            _text(figure, self.second[number], middle, top + self.second_top, "center")
            self.lists[number].draw(figure, left, top + self.list_top)

    def _image(self, figure: Figure, image: NDArray[np.floating[Any]], left: float, top: float, frame: str) -> None:
        width, height = figure.get_size_inches()
        box = (left / width, 1 - (top + self.picture) / height, self.width / width, self.picture / height)
        axes = figure.add_axes(box)
        picture = image[..., 0] if image.shape[-1] == 1 else image
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(edgecolor=frame, linewidth=1.8 if frame == RED else 0.6)


class _Labels:
    """A label list under a panel, in as many columns as its width holds."""

    def __init__(self, panel: Panel, width: float) -> None:
        self.heading = [Line(panel.heading, INK, bold=True)] if panel.heading else []
        self.labels, self.width = panel.labels, width
        widest = max((text_width(line.text) for line in panel.labels), default=width)
        self.columns = max(1, int((width + _GAP) / (widest + _GAP)))
        self.depth = -(-len(panel.labels) // self.columns)
        self.lines = self.depth + len(self.heading)

    def draw(self, figure: Figure, left: float, top: float) -> None:
        _text(figure, self.heading, left, top, "left")
        for column in range(self.columns):
            part = self.labels[column * self.depth : (column + 1) * self.depth]
            at = left + column * (self.width + _GAP) / self.columns
            _text(figure, part, at, top + len(self.heading) * _LINE, "left")


def wrap(line: Line, width: float) -> list[Line]:
    """Breaks a line between words so that each part is at most `width` inches wide (a longer word stays whole)."""
    parts: list[str] = []
    for word in line.text.split(" "):
        joined = f"{parts[-1]} {word}" if parts else word
        if parts and text_width(joined, line.bold) <= width:
            parts[-1] = joined
        else:
            parts.append(word)
    return [Line(part, line.colour, line.bold) for part in parts]


@lru_cache(maxsize=4096)
def text_width(text: str, bold: bool = False) -> float:
    """The width of text in inches at the figure's font size."""
    if not text.strip():
        return 0.0
    properties = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=_FONT_SIZE, prop=properties).get_extents().x1) / 72


def _tallest(texts: list[list[Line]]) -> int:
    return max(len(lines) for lines in texts)


def _rule(figure: Figure, top: float) -> None:
    """A thin line from margin to margin."""
    width, height = figure.get_size_inches()
    ends = [_MARGIN / width, 1 - _MARGIN / width]
    figure.add_artist(Line2D(ends, [1 - top / height] * 2, color=GREY, linewidth=0.6))


def _text(figure: Figure, lines: list[Line], x: float, top: float, align: str) -> None:
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        y = top + (number + 0.5) * _LINE
        figure.text(
            x / width,
            1 - y / height,
            line.text,
            color=line.colour,
            weight="bold" if line.bold else "normal",
            ha=align,
            va="center_baseline",
        )
