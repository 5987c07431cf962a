"""JMA in one step: on how many images the first iteration reaches the target (JMA paper, Section VII-F)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wolfe.report.findings import verdict
from wolfe.report.grid import Column, rows_of
from wolfe.report.parts import naming_columns, places, rows_of_parts
from wolfe.report.records import read_row
from wolfe.report.summary import wilson_interval
from wolfe.report.words import encoding_name, fixed, listed, proportion, table_name

__all__ = ["columns", "findings", "lines", "places", "reading"]


def lines(spec: Mapping[str, Any], attacks: Path) -> pd.DataFrame:
    """One line for each JMA row of each part.

    Args:
        spec: the resolved table, with `parts`.
        attacks: the folder `attacks`.

    Returns:
        Which row it is, and its counts and shares; `first_*` is about the first iteration.
    """
    return pd.DataFrame(
        [
            named | {"step_size": row["parameters"]["step_size"]} | summarise_first(read_row(folder).records)
            for named, row, folder in rows_of_parts(spec, attacks)
        ]
    )


def summarise_first(records: pd.DataFrame) -> dict[str, Any]:
    """How one row fared in its first iteration.

    Images at the target before any change are left out of the shares; the ASR and the mean number of iterations are
    those of the other tables.

    Args:
        records: one line an image, with `first_success`: the iteration at which the target was first reached.
    """
    success = records["success"].astype(bool)
    tried = records[records["status"] != "already_there"]
    first = int((tried["first_success"] == 1).sum())
    found = int(tried["success"].astype(bool).sum())
    low, high = wilson_interval(first, len(tried)) if len(tried) else (np.nan, np.nan)
    return {
        "images": len(records),
        "already_there": len(records) - len(tried),
        "attacked": len(tried),
        "first": first,
        "first_share": first / len(tried) if len(tried) else np.nan,
        "first_95_low": low,
        "first_95_high": high,
        "first_share_of_successes": first / found if found else np.nan,
        "iterations_mean": records.loc[success, "iterations"].mean(),
        "asr": success.mean(),
        "bits_asked_mean": records["bits_asked"].mean(),
    }


def columns(_: pd.DataFrame) -> list[Column]:
    """What readers see."""
    return [
        *naming_columns(),
        Column("", "step size", lambda line: f"{line['step_size']:g}"),
        Column("First iteration", "share [95 %]", _share),
        Column("First iteration", "images", lambda line: f"{line['first']} of {line['attacked']}"),
        Column("First iteration", "of successes", lambda line: fixed(line["first_share_of_successes"])),
        Column("All iterations", "n_it", lambda line: fixed(line["iterations_mean"], 1)),
        Column("All iterations", "ASR", lambda line: fixed(line["asr"])),
    ]


def _share(line: Mapping[str, Any]) -> str:
    return proportion(line["first_share"], line["first_95_low"], line["first_95_high"])


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    text = (
        "First iteration: the whole linear step from the original image reaches the target; the share is over the "
        "images that did not decide for it from the start, with Wilson's 95 % interval. n_it (over the successes, "
        "the last search included) and ASR are those of the table named."
    )
    without = int(table.groupby("table")["already_there"].first().sum())
    return f"{text} {without} images were at their target already." if without else text


def findings(table: pd.DataFrame) -> list[str]:
    """What follows from the shares: does the step size touch them, what does it touch, and where is one step enough.

    Args:
        table: the full table.
    """
    tables = [part for _, part in table.groupby("table", sort=False)]
    several = [part for part in tables if len(part["step_size"].unique()) > 1]
    first = pd.concat([part.iloc[:1] for part in tables])
    tried = int(first["attacked"].sum())
    opening = f"Over the tables (one row each, {tried} images and targets) {_pooled(first)} in the first iteration."
    says = [opening, *([_unchanged(several), _changed(several)] if several else []), *_by_encoding(first)]
    return says + _extremes(first)


def _pooled(rows: pd.DataFrame) -> str:
    done, tried = int(rows["first"].sum()), int(rows["attacked"].sum())
    if not tried:
        return "no image was to be attacked"
    return f"{done} of {tried} ({100 * done / tried:.0f} %) are done"


def _unchanged(several: list[pd.DataFrame]) -> str:
    """Whether the share depends on the step size."""
    other = [part for part in several if len(part["first"].unique()) > 1]
    same = len(several) - len(other)
    text = (
        f"Step size and first iteration: in {same} of {len(several)} tables with several step sizes the same number of "
        "images is done at each of them. That is so by construction: the first iteration tries the whole linear step, "
        "and only where that fails a step of the given size is taken."
    )
    if not other:
        return text
    named = [
        f"{table_name(part['table'].iloc[0])} ({part['first'].min()} to {part['first'].max()} images)" for part in other
    ]
    return f"{text} The exceptions, {listed(named)}, come from options of their rows or from rounding."


def _changed(several: list[pd.DataFrame]) -> str:
    """What the step size does to the iterations and to the success: the smallest against the largest of each table.

    A cut budget may end small steps before they can arrive, and our own rows differ in more than the step: only
    published rows with their whole budget, and with equal ones, are compared.
    """
    equal = [rows for part in several if len((rows := _comparable(part))["step_size"].unique()) > 1]
    text = "Step size and what comes after: "
    if not equal:
        return (
            f"{text}no table has rows that ran with their whole, and equal, published budgets, so nothing to compare."
        )
    pairs = [_ends(part, "step_size") for part in equal]
    counted = [pair for pair in pairs if all(line["iterations_mean"] > 0 for line in pair)]
    fewer = sum(large["iterations_mean"] < small["iterations_mean"] for small, large in counted)
    more = sum(large["iterations_mean"] > small["iterations_mean"] for small, large in counted)
    text += (
        f"compared are the rows of {listed([table_name(part['table'].iloc[0]) for part in equal])}, which ran with "
        "their whole and equal published budgets; "
    )
    if counted:
        factor = float(np.median([small["iterations_mean"] / large["iterations_mean"] for small, large in counted]))
        outcome = verdict(fewer, more, "larger steps need fewer iterations", "larger steps need more iterations")
        text += (
            f"from the smallest to the largest step size n_it falls in {fewer} and rises in {more} of {len(counted)} "
            f"tables, by a factor of {factor:.2g} in the median: {outcome}; "
        )
    higher = sum(large["asr"] > small["asr"] for small, large in pairs)
    lower = sum(large["asr"] < small["asr"] for small, large in pairs)
    outcome = verdict(higher, lower, "larger steps succeed more often", "larger steps succeed less often")
    return f"{text}the ASR rises in {higher}, falls in {lower} and stays in {len(pairs) - higher - lower}: {outcome}."


def _comparable(part: pd.DataFrame) -> pd.DataFrame:
    """The published rows of a table with their whole budget, the same largest number of iterations in all."""
    whole = part[part["published"] & ~part["budget_cut"]]
    return whole if whole.empty else whole[whole["max_iterations"] == whole["max_iterations"].mode().iloc[0]]


def _by_encoding(first: pd.DataFrame) -> list[str]:
    parts = [
        f"{encoding_name(str(name))} {_pooled(group).removesuffix(' are done')}"
        for name, group in first.groupby("encoding", sort=False)
    ]
    return [f"By encoding: done in the first iteration are {listed(parts)}."] if len(parts) > 1 else []


def _extremes(first: pd.DataFrame) -> list[str]:
    known = first.dropna(subset=["first_share"])
    if len(known) < 2 or known["first_share"].nunique() < 2:
        return []
    least, most = _ends(known, "first_share")
    return [
        "By table: " + listed([f"{word} {_named(line)}" for word, line in (("most", most), ("fewest", least))]) + "."
    ]


def _ends(table: pd.DataFrame, column: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The lines with the smallest and with the largest value of a column, of equals the first."""
    lines_ = rows_of(table)
    return min(lines_, key=lambda line: line[column]), max(lines_, key=lambda line: line[column])


def _named(line: Mapping[str, Any]) -> str:
    bits = f", {line['bits_asked_mean']:.1f} labels to change" if line["encoding"] == "multi_label" else ""
    return f"{table_name(line['table'])} ({line['dataset']}, {line['model']}{bits}) with {_share(line)}"
