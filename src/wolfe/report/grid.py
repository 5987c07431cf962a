"""Tables as people read them: the same lines and columns as Markdown and as LaTeX, whatever the table is about."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.files import atomic_path
from wolfe.provenance import check_written
from wolfe.reading.regular import regular_file

OURS, PUBLISHED = "Ours", "Published"


@dataclass(frozen=True)
class Column:
    """A column that people read.

    Attributes:
        group: what it belongs to, as `OURS` or `PUBLISHED`, or nothing.
        header: what stands above it.
        show: from one line of the full table to the text of the cell.
        text: whether it holds words, which are set to the left, and not numbers.
    """

    group: str
    header: str
    show: Callable[[Mapping[str, Any]], str]
    text: bool = False


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table as dicts, column name to value."""
    return [{str(name): value for name, value in line.items()} for line in table.to_dict("records")]


def groups_of(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Each group and how many columns stand under it, neighbours together."""
    groups: list[tuple[str, int]] = []
    for column in columns:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return groups


def to_markdown(table: pd.DataFrame, columns: Sequence[Column], text: str, says: Sequence[str]) -> str:
    """A table for readers in Markdown, with its caption above and its findings below.

    Args:
        table: the full table.
        columns: what is shown of it, from left to right.
        text: the caption.
        says: the findings, one paragraph each.
    """
    lines = rows_of(table)
    headers = [f"{column.group}: {column.header}" if column.group else column.header for column in columns]
    cells = {
        header: [column.show(line).replace("|", "\\|") for line in lines]
        for header, column in zip(headers, columns, strict=True)
    }
    alignment = ["left" if column.text else "right" for column in columns]
    grid = pd.DataFrame(cells).to_markdown(index=False, colalign=alignment, disable_numparse=True)
    bullets = "\n".join(f"- {paragraph}" for paragraph in says)
    return f"{text}\n\n{grid}\n\n## What this table says\n\n{bullets}\n"


def to_latex(table: pd.DataFrame, columns: Sequence[Column], text: str, name: str, notes: Sequence[str] = ()) -> str:
    """A table for readers in LaTeX: a `table*` that needs the packages booktabs and graphicx.

    Args:
        table: the full table.
        columns: what is shown of it, from left to right.
        text: the caption.
        name: the table's name, for its label.
        notes: lines of small print below it.
    """
    lines = rows_of(table)
    cells = {
        (latex(column.group), latex(column.header)): [latex(column.show(line)) for line in lines] for column in columns
    }
    form = "".join("l" if column.text else "r" for column in columns)
    grid = pd.DataFrame(cells).to_latex(
        index=False, escape=False, multicolumn=True, multicolumn_format="c", column_format=form
    )
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            "\\begin{table*}",
            "\\centering",
            f"\\caption{{{latex(text)}}}",
            f"\\label{{tab:{name}}}",
            "\\smallskip",
            "\\resizebox{\\textwidth}{!}{%",
            _with_group_rules(grid.rstrip(), columns) + "}",
            *(f"\\par\\smallskip\\footnotesize {latex(note)}" for note in notes),
            "\\end{table*}",
            "",
        ]
    )


def _with_group_rules(grid: str, columns: Sequence[Column]) -> str:
    """Adds the short rules under the names of the groups, which pandas leaves out; takes an empty line of names out."""
    lines, rules, first = grid.splitlines(), [], 1
    for group, width in groups_of(columns):
        if group:
            rules.append(f"\\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    top = lines.index("\\toprule")
    if not rules:
        return "\n".join([*lines[: top + 1], *lines[top + 2 :]])
    return "\n".join([*lines[: top + 2], " ".join(rules), *lines[top + 2 :]])


_LATEX = {
    "\\": "\\textbackslash{}",
    "&": "\\&",
    "%": "\\%",
    "$": "\\$",
    "#": "\\#",
    "_": "\\_",
    "{": "\\{",
    "}": "\\}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "[": "{[}",
    "]": "{]}",
    "\N{DAGGER}": "$^\\dagger$",
    "\N{MULTIPLICATION SIGN}": "$\\times$",
    "\N{RIGHTWARDS ARROW}": "$\\to$",
    "\N{EM DASH}": "---",
    "\N{PLUS-MINUS SIGN}": "$\\pm$",
}


def latex(text: str) -> str:
    """Text with everything escaped that LaTeX would read as a command."""
    return "".join(_LATEX.get(character, character) for character in str(text))


def write_text(out: Path, suffix: str, text: str) -> None:
    """Writes `<out><suffix>`, whole or not at all."""
    out = Path(out)
    with atomic_path(out.with_name(out.name + suffix)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(out: Path, table: pd.DataFrame) -> None:
    """Writes `<out>.csv`: all lines and columns of a table, for machines."""
    write_text(out, ".csv", table.to_csv(index=False, lineterminator="\n"))


def read_csv(path: Path, texts: Sequence[str]) -> pd.DataFrame:
    """Reads a table's CSV back, the columns `texts` as text (empty where nothing stands), missing numbers as NaN.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no file, no table, or not the one that was written.
    """
    check_written(path)
    try:
        table = pd.read_csv(regular_file(path), dtype=dict.fromkeys(texts, str))
        return table.fillna({name: "" for name in texts if name in table})
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: make this table first") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is no readable table ({error}): delete it and run again") from error
