"""An answer to a question: a table and a plot, and the files they go into."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from wolfe.files import atomic_path

# Blue, vermilion, green, purple, orange, sky, black, yellow: told apart by all eyes (Okabe and Ito's palette).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8a800")
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class Answer:
    """What a question came to.

    Attributes:
        name: of the files.
        title: of table and plot.
        table: one row a measurement.
        draw: draws the plot into a figure, once given the table.
        notes: what a reader must know: what was counted, and what was not run.
        size: of the plot, inches.
        more: further tables by name, written as CSV beside it: what the table was worked out from.
    """

    name: str
    title: str
    table: pd.DataFrame
    draw: Callable[[Figure, pd.DataFrame], None]
    notes: list[str] = field(default_factory=list)
    size: tuple[float, float] = (10.0, 4.6)
    more: dict[str, pd.DataFrame] = field(default_factory=dict)


def write(answer: Answer, facts: Mapping[str, str], folder: Path) -> None:
    """Writes `<name>.csv`, `<name>.md` and `<name>.png`; each says what it was measured on."""
    origin = [f"{key}: {value}" for key, value in facts.items()]
    head = [answer.title, *answer.notes, *origin]
    comments = "".join(f"# {line}\n" for line in head)
    _write(folder / f"{answer.name}.csv", comments + answer.table.to_csv(index=False))
    for name, table in answer.more.items():
        _write(folder / f"{answer.name}_{name}.csv", comments + table.to_csv(index=False))
    notes = "".join(f"- {note}\n" for note in answer.notes)
    body = f"# {answer.title}\n\n{markdown(answer.table)}\n\n{notes}\n" + "".join(f"- {line}\n" for line in origin)
    _write(folder / f"{answer.name}.md", body)
    figure = Figure(figsize=answer.size, layout="constrained")
    FigureCanvasAgg(figure)
    answer.draw(figure, answer.table)
    figure.suptitle(answer.title, fontsize=11)
    shown = [line for line in origin if not line.startswith("versions")]
    figure.supxlabel("  |  ".join(shown[:3]) + "\n" + "  |  ".join(shown[3:]), fontsize=6, color="#555555")
    with atomic_path(folder / f"{answer.name}.png") as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Description": "\n".join(head)})


def plain_numbers(*axes: Axis) -> None:
    """Gives logarithmic axes plain numbers at 1, 2 and 5 times a power of ten."""
    for axis in axes:
        axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_tick_params(which="both", labelsize=8)


def read(path: Path) -> pd.DataFrame:
    """The table of an answer's CSV file; empty where there is none."""
    if not path.is_file():
        return pd.DataFrame()
    return pd.read_csv(StringIO(_without_head(path)))


def read_facts(path: Path) -> dict[str, str]:
    """What an answer's CSV file says of its origin; empty where there is none."""
    if not path.is_file():
        return {}
    head = [line[2:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    return dict(line.split(": ", 1) for line in head if ": " in line)


def _without_head(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("# "))


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers to three digits; nothing where there is no value."""
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, int) or value == 0 or math.isinf(value):
        return str(value)
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
