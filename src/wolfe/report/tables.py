"""Tables: aggregates of records beside the published numbers, as CSV, Markdown and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.provenance import begin_run, beside, checksums
from wolfe.report.derived import KINDS, write_derived
from wolfe.report.findings import findings
from wolfe.report.grid import OURS, PUBLISHED, Column, read_csv, rows_of, to_latex, to_markdown, write_csv, write_text
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
from wolfe.study.needs import table_inputs

_SUFFIXES = (".csv", ".md", ".tex")


def write_table(spec: Mapping[str, Any], attacks: Path, published: Path | None, out: Path) -> None:
    """Writes a table as `<out>.csv` (everything, for machines), `<out>.md` and `<out>.tex` (for readers).

    Its run file is `<out>.run.json`.

    Args:
        spec: the resolved table: name, title, stands_in, kind ("attacks" if left out) and, for that kind, model,
            dataset, targets, budgets, rows; for the others see `derived`.
        attacks: `attacks/<model>/<rule>`, which holds one folder a slug; for other kinds than "attacks" the folder
            `attacks`.
        published: the CSV file of the published numbers; may be missing when no row refers to it.
        out: the files' common stem.

    Raises:
        FileNotFoundError: a row has not been run, or there is no published file.
        ValueError: a file is damaged, the rows differ in images or targets, a row refers to numbers that were not
            published, or the kind is unknown.
    """
    run = begin_run("table", spec, table_inputs(spec, attacks, published))
    _write(spec, attacks, published, out)
    run.write(beside(out), checksums(Path(f"{out}{suffix}") for suffix in _SUFFIXES), ["wolfe.report.tables"])


def _write(spec: Mapping[str, Any], attacks: Path, published: Path | None, out: Path) -> None:
    kind = spec.get("kind", "attacks")
    if kind in KINDS:
        write_derived(spec, attacks, out)
        return
    if kind != "attacks":
        raise ValueError(f"table {spec['name']!r}: unknown kind {kind!r}; there are attacks, {', '.join(KINDS)}")
    results = read_rows(spec, attacks)
    table = pd.concat([summarise(spec, results), published_columns(spec, published)], axis=1)
    text, says, shown = caption(spec, table), findings(table, results), columns(table)
    label = Column("", "Attack", lambda row: row["label"], text=True)
    marked = Column("", "Attack", _marked_label, text=True)
    remarks = Column("", "Remarks", remark, text=True)
    write_csv(out, table)
    write_text(out, ".md", to_markdown(table, [label, *shown, remarks], text, says))
    write_text(out, ".tex", to_latex(table, [marked, *shown], text, spec["name"], _notes(table)))


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table's CSV back, published numbers as text, missing numbers as NaN.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no table of `write_table`.
    """
    texts = ["slug", "attack", "label", "origin", "same_run_as", "parameters", "parameters_asked", "device"]
    return read_csv(path, [*texts, *(f"published_{name}" for name in ("attack", "params", *VALUES))])


def columns(table: pd.DataFrame) -> list[Column]:
    """The columns that a reader of this table needs: some only where there is anything to say.

    The number of images stands where rows differ in it, bit success in tables of label vectors, `consistent` where
    labels have a hierarchy, and of the published numbers those that were printed.

    Args:
        table: the full table.
    """
    chosen = [
        Column(OURS, "images", lambda row: fixed(row["images"], 0)),
        Column(OURS, "ASR [95 %]", lambda row: proportion(row["asr"], row["asr_95_low"], row["asr_95_high"])),
        Column(OURS, "bASR", lambda row: fixed(row["basr"], 4)),
        Column(OURS, "consistent", lambda row: fixed(row["consistent"])),
        Column(OURS, "MSE", lambda row: scientific(row["mse_mean"])),
        Column(OURS, "SSIM", lambda row: fixed(row["ssim_mean"], 3)),
        Column(OURS, "n_it", lambda row: fixed(row["iterations_mean"], 1)),
        Column(OURS, "s/image", lambda row: significant(row["seconds_per_image_mean"], 2)),
        Column(OURS, "L2 median (90 %)", _l2),
        Column(OURS, "passes", lambda row: fixed(row["passes_per_image_mean"], 0)),
        Column(OURS, "ASR 8-bit", lambda row: fixed(row["asr_8bit"])),
    ]
    absent = set() if table["multi_label"].any() else {"bASR"}
    absent |= set() if (table["images"] < table["images"].max()).any() else {"images"}
    absent |= set() if table["consistent"].notna().any() else {"consistent"}
    chosen = [column for column in chosen if column.header not in absent]
    headers = {"asr": "ASR", "basr": "bASR", "mse": "MSE", "ssim": "SSIM", "n_it": "n_it", "time_s": "time [s]"}
    for name in VALUES:
        if (table[f"published_{name}"] != "").any():
            chosen.append(Column(PUBLISHED, headers[name], _published(name)))
    return chosen


def _l2(row: Mapping[str, Any]) -> str:
    if pd.isna(row["l2_median"]):
        return MISSING
    return f"{significant(row['l2_median'])} ({significant(row['l2_90th_percentile'])})"


def _published(name: str) -> Callable[[Mapping[str, Any]], str]:
    def show(row: Mapping[str, Any]) -> str:
        return str(row[f"published_{name}"]) or MISSING

    return show


def _marked_label(row: Mapping[str, Any]) -> str:
    return str(row["label"]) + ("\N{DAGGER}" if row["budget_cut"] else "")


def _notes(table: pd.DataFrame) -> list[str]:
    notes = [f"\N{DAGGER} {NOT_COMPARABLE}."] if table["budget_cut"].any() else []
    rows = rows_of(table)
    endings = [f"{row['label']}: {unfound(row)}" for row in rows if unfound(row)]
    if endings:
        notes.append(f"Images without success: {'; '.join(endings)}.")
    for row in rows:
        if row["origin"] == "ours":
            values = ", ".join(f"{key} {value}" for key, value in json.loads(row["parameters"]).items())
            notes.append(f"{row['label']}: {values}.")
    return notes
