"""Tables: aggregates of records beside the published numbers, as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.files import atomic_path
from wolfe.report.findings import findings
from wolfe.report.published import VALUES, published_columns
from wolfe.report.records import read_rows
from wolfe.report.summary import summarise
from wolfe.report.words import (
    MISSING,
    NOT_COMPARABLE,
    caption,
    fixed,
    proportion,
    remark,
    scientific,
    significant,
    unfound,
)

OURS, PUBLISHED = "Ours", "Published"


@dataclass(frozen=True)
class Column:
    """A column that people read.

    Attributes:
        group: `OURS`, `PUBLISHED` or nothing.
        header: what stands above it.
        show: from one line of the full table to the text of the cell.
    """

    group: str
    header: str
    show: Callable[[Mapping[str, Any]], str]


def write_table(spec: Mapping[str, Any], attacks: Path, published: Path | None, out: Path) -> None:
    """Writes a table as `<out>.csv` (everything, for machines), `<out>.md` and `<out>.tex` (for readers).

    Args:
        spec: the resolved table: name, title, stands_in, model, dataset, targets, budgets, rows.
        attacks: `attacks/<model>/<rule>`, which holds one folder a slug.
        published: the CSV file of the published numbers; may be missing when no row refers to it.
        out: the files' common stem.

    Raises:
        FileNotFoundError: a row has not been run, or there is no published file.
        ValueError: a file is damaged, the rows differ in images or targets, or a row refers to numbers that were
            not published.
    """
    results = read_rows(spec, attacks)
    table = pd.concat([summarise(spec, results), published_columns(spec, published)], axis=1)
    text, says = caption(spec, table), findings(table, results)
    _write(out, ".csv", table.to_csv(index=False, lineterminator="\n"))
    _write(out, ".md", to_markdown(table, text, says))
    _write(out, ".tex", to_latex(table, text, spec["name"]))


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table's CSV back, published numbers as text, missing numbers as NaN.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no table of `write_table`.
    """
    texts = ["slug", "attack", "label", "origin", "same_run_as", "parameters", "parameters_asked", "device"]
    texts += [f"published_{name}" for name in ("attack", "params", *VALUES)]
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
        return table.fillna(dict.fromkeys(texts, ""))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: make this table first") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is no readable table ({error}): delete it and run again") from error


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table as dicts, column name to value."""
    return [{str(name): value for name, value in line.items()} for line in table.to_dict("records")]


def columns(table: pd.DataFrame) -> list[Column]:
    """The columns that a reader of this table needs: bit success and published groups only where there is any.

    Args:
        table: the full table.
    """
    chosen = [
        Column(OURS, "ASR [95 %]", lambda row: proportion(row["asr"], row["asr_95_low"], row["asr_95_high"])),
        Column(OURS, "bASR", lambda row: fixed(row["basr"], 4)),
        Column(OURS, "MSE", lambda row: scientific(row["mse_mean"])),
        Column(OURS, "SSIM", lambda row: fixed(row["ssim_mean"], 3)),
        Column(OURS, "n_it", lambda row: fixed(row["iterations_mean"], 1)),
        Column(OURS, "s/image", lambda row: significant(row["seconds_per_image_mean"], 2)),
        Column(OURS, "L2 median (90 %)", _l2),
        Column(OURS, "passes", lambda row: fixed(row["passes_per_image_mean"], 0)),
        Column(OURS, "ASR 8-bit", lambda row: fixed(row["asr_8bit"])),
    ]
    if not table["multi_label"].any():
        chosen = [column for column in chosen if column.header != "bASR"]
    headers = {"asr": "ASR", "basr": "bASR", "mse": "MSE", "ssim": "SSIM", "n_it": "n_it", "time_s": "time [s]"}
    for name in VALUES:
        if (table[f"published_{name}"] != "").any():
            chosen.append(Column(PUBLISHED, headers[name], _published(name)))
    return chosen


def to_markdown(table: pd.DataFrame, text: str, says: list[str]) -> str:
    """The table for readers in Markdown, with its caption above and its findings below.

    Args:
        table: the full table.
        text: the caption.
        says: the findings, one paragraph each.
    """
    shown = [*columns(table), Column("", "Remarks", remark)]
    frame = pd.DataFrame({"Attack": table["label"]})
    for column in shown:
        header = f"{column.group}: {column.header}" if column.group else column.header
        frame[header] = [column.show(row) for row in rows_of(table)]
    frame = frame.map(lambda cell: cell.replace("|", "\\|"))
    alignment = ["left", *(["right"] * (len(shown) - 1)), "left"]
    grid = frame.to_markdown(index=False, colalign=alignment, disable_numparse=True)
    bullets = "\n".join(f"- {paragraph}" for paragraph in says)
    return f"{text}\n\n{grid}\n\n## What this table says\n\n{bullets}\n"


def to_latex(table: pd.DataFrame, text: str, name: str) -> str:
    """The table for readers in LaTeX: a `table*` that needs the packages booktabs and graphicx.

    Args:
        table: the full table.
        text: the caption.
        name: the table's name, for its label.
    """
    shown = columns(table)
    data = {("", "Attack"): [_latex_label(row) for row in rows_of(table)]}
    for column in shown:
        cells = [_latex(column.show(row)) for row in rows_of(table)]
        data[(column.group, _latex(column.header))] = cells
    frame = pd.DataFrame(data)
    grid = frame.to_latex(
        index=False, escape=False, multicolumn=True, multicolumn_format="c", column_format="l" + "r" * len(shown)
    )
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,graphicx}",
            "\\begin{table*}",
            "\\centering",
            f"\\caption{{{_latex(text)}}}",
            f"\\label{{tab:{name}}}",
            "\\smallskip",
            "\\resizebox{\\textwidth}{!}{%",
            _with_group_rules(grid.rstrip(), shown) + "}",
            *(f"\\par\\smallskip\\footnotesize {note}" for note in _notes(table)),
            "\\end{table*}",
            "",
        ]
    )


def _l2(row: Mapping[str, Any]) -> str:
    if pd.isna(row["l2_median"]):
        return MISSING
    return f"{significant(row['l2_median'])} ({significant(row['l2_90th_percentile'])})"


def _published(name: str) -> Callable[[Mapping[str, Any]], str]:
    def show(row: Mapping[str, Any]) -> str:
        return str(row[f"published_{name}"]) or MISSING

    return show


def _latex_label(row: Mapping[str, Any]) -> str:
    return _latex(row["label"]) + ("$^\\dagger$" if row["budget_cut"] else "")


def _notes(table: pd.DataFrame) -> list[str]:
    notes = [f"$^\\dagger$ {NOT_COMPARABLE}."] if table["budget_cut"].any() else []
    rows = rows_of(table)
    endings = [f"{row['label']}: {unfound(row)}" for row in rows if unfound(row)]
    if endings:
        notes.append(_latex(f"Images without success: {'; '.join(endings)}."))
    own = [row for row in rows if row["origin"] == "ours"]
    for row in own:
        values = ", ".join(f"{key} {value}" for key, value in json.loads(row["parameters"]).items())
        notes.append(_latex(f"{row['label']}: {values}."))
    return notes


def _with_group_rules(grid: str, shown: list[Column]) -> str:
    """Adds the short rules under the names of the groups, which pandas leaves out."""
    lines, rules, first = grid.splitlines(), [], 2
    for group in (OURS, PUBLISHED):
        width = sum(column.group == group for column in shown)
        if width:
            rules.append(f"\\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    top = lines.index("\\toprule")
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
    "\N{MULTIPLICATION SIGN}": "$\\times$",
    "→": "$\\to$",
    "—": "---",
    "±": "$\\pm$",
}


def _latex(text: str) -> str:
    """Text with everything escaped that LaTeX would read as a command."""
    return "".join(_LATEX.get(character, character) for character in str(text))


def _write(out: Path, suffix: str, text: str) -> None:
    out = Path(out)
    with atomic_path(out.with_name(out.name + suffix)) as temporary:
        temporary.write_text(text, encoding="utf-8")
