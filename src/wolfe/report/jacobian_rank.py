"""The rank of the Jacobian along JMA's iterations (JMA paper, Section VI-D)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wolfe.report.grid import Column
from wolfe.report.parts import naming_columns, places, rows_of_parts
from wolfe.report.records import read_row, read_trace
from wolfe.report.words import MISSING, fixed, listed, scientific, table_name

__all__ = ["columns", "findings", "lines", "places", "reading"]

EARLY = 5
"""Iterations up to this one count as the first ones."""
RANK, RATIO = "jacobian_rank", "jacobian_singular_ratio"


def lines(spec: Mapping[str, Any], attacks: Path) -> pd.DataFrame:
    """One line for each JMA row of each part.

    Args:
        spec: the resolved table, with `parts`.
        attacks: the folder `attacks`.

    Returns:
        Which row it is, and what its trace says.
    """
    return pd.DataFrame(
        [
            named | summarise_trace(read_trace(folder), read_row(folder).records)
            for named, _, folder in rows_of_parts(spec, attacks)
        ]
    )


def summarise_trace(trace: pd.DataFrame, records: pd.DataFrame) -> dict[str, Any]:
    """What the Jacobians of one row were like, and what became of the images where one lost rank.

    Args:
        trace: one line for each image and step in work, with the rank of the Jacobian and the ratio of its least to
            its largest singular value.
        records: one line an image.

    Returns:
        Counts and shares; NaN where there was no such Jacobian.
    """
    trace = trace.reindex(columns=["image_id", "step", RANK, RATIO])
    outputs = int(records["bits_total"].iloc[0])
    full = trace[RANK] >= outputs
    step = trace["step"]
    groups = {"step_1": step == 1, "early": step <= EARLY, "later": step > EARLY}
    counts: dict[str, Any] = {}
    for name, chosen in groups.items():
        counts |= {f"jacobians_{name}": int(chosen.sum()), f"full_{name}": int((chosen & full).sum())}
        counts[f"full_share_{name}"] = full[chosen].mean()
    lost = set(trace.loc[~full, "image_id"])
    seen = records[records["image_id"].isin(set(trace["image_id"]))]
    losers = seen["image_id"].isin(lost)
    success = seen["success"].astype(bool)
    ends = trace.sort_values("step").groupby("image_id")[RATIO]
    return {
        "images": len(records),
        "traced": len(seen),
        "outputs": outputs,
        "jacobians": len(trace),
        **counts,
        "rank_lowest": trace[RANK].min(),
        "rank_highest": trace[RANK].max(),
        "first_deficient_step": step[~full].min(),
        "ratio_first_median": ends.first().median(),
        "ratio_first_least": ends.first().min(),
        "ratio_last_median": ends.last().median(),
        "ratio_last_least": ends.last().min(),
        "deficient": int(losers.sum()),
        "deficient_successes": int((losers & success).sum()),
        "always_full": int((~losers).sum()),
        "always_full_successes": int((~losers & success).sum()),
    }


def columns(_: pd.DataFrame) -> list[Column]:
    """What readers see."""
    full, ratio, success = (
        "Share of full rank",
        "Least / largest singular value, median (least)",
        "Images found",
    )
    return [
        *naming_columns(),
        Column("", "outputs", lambda line: str(line["outputs"])),
        Column("", "Jacobians", lambda line: f"{line['jacobians']:,}"),
        Column(full, "step 1", lambda line: _share(line["full_share_step_1"])),
        Column(full, f"steps 1 to {EARLY}", lambda line: _share(line["full_share_early"])),
        Column(full, "later", lambda line: _share(line["full_share_later"])),
        Column("", "lowest rank", lambda line: fixed(line["rank_lowest"], 0)),
        Column("", "first lost at step", lambda line: fixed(line["first_deficient_step"], 0)),
        Column(ratio, "first step", lambda line: _ratio(line, "first")),
        Column(ratio, "last step", lambda line: _ratio(line, "last")),
        Column(success, "that lost rank", lambda line: _outcome(line, "deficient")),
        Column(success, "that did not", lambda line: _outcome(line, "always_full")),
    ]


def _share(value: float) -> str:
    """A share that is 1.00 or 0.00 only where it is so exactly."""
    if pd.isna(value) or value in (0, 1):
        return fixed(value)
    return f"{min(max(value, 0.001), 0.999):.3f}"


def _ratio(line: Mapping[str, Any], end: str) -> str:
    if pd.isna(line[f"ratio_{end}_median"]):
        return MISSING
    return f"{scientific(line[f'ratio_{end}_median'])} ({scientific(line[f'ratio_{end}_least'])})"


def _outcome(line: Mapping[str, Any], group: str) -> str:
    return f"{line[f'{group}_successes']} of {line[group]}" if line[group] else MISSING


def reading(_: pd.DataFrame) -> str:
    """How to read the table."""
    return (
        "The Jacobian of the logits by the image is seen once in each iteration of each image still in work. Its rank "
        "counts the singular values that stand out from the rounding of single precision, and is full when it equals "
        "the number of outputs. Last step: each image's own."
    )


def findings(table: pd.DataFrame) -> list[str]:
    """What follows: whether the rank is full at first and later, and whether losing it matters.

    Args:
        table: the full table.
    """
    total = int(table["jacobians"].sum())
    narrow = table["rank_highest"] < table["outputs"]
    able = table[~narrow]
    says = [
        f"{total:,} Jacobians in {len(table)} rows; the paper finds the rank full while there are few iterations, and "
        "now and then not when there are many.",
        *_never_full(table[narrow]),
    ]
    return says if able.empty else [*says, _early_and_later(able), *_losses(able), *_ratios(able)]


def _never_full(rows: pd.DataFrame) -> list[str]:
    """Rows whose rank is full in no Jacobian at all: the network, not the iterations."""
    if rows.empty:
        return []
    named = [
        f"{table_name(str(name))} (at most {int(part['rank_highest'].max())} of {int(part['outputs'].iloc[0])})"
        for name, part in rows.groupby("table", sort=False)
    ]
    return [
        f"Never full: in {len(rows)} rows no Jacobian has full rank, not even at step 1: {listed(named)}. A rank that "
        "the iterations have no part in is the network's own, as where its last feature has fewer values than there "
        "are outputs; these rows are left out of what follows."
    ]


def _early_and_later(table: pd.DataFrame) -> str:
    parts = [
        f"{words} {_count(table, name)}"
        for name, words in (("step_1", "at step 1"), ("early", f"over steps 1 to {EARLY}"), ("later", "later"))
    ]
    early = table["full_early"].sum() == table["jacobians_early"].sum()
    later = table["full_later"].sum() == table["jacobians_later"].sum()
    if not early:
        outcome = "other than the paper says, the rank is not always full in the first iterations"
    elif not table["jacobians_later"].sum():
        outcome = f"no attack here went beyond step {EARLY}"
    elif later:
        outcome = "the rank is full in all of them, early and late: no loss was met here"
    else:
        outcome = "full in the first iterations and sometimes not afterwards, as the paper says"
    return f"Full rank: {listed(parts)}; {outcome}."


def _count(table: pd.DataFrame, name: str) -> str:
    full, seen = int(table[f"full_{name}"].sum()), int(table[f"jacobians_{name}"].sum())
    return f"in {full:,} of {seen:,} ({_percent(full / seen)})" if seen else "in none (there were none)"


def _percent(value: float) -> str:
    """Percent that read 100 or 0 only where it is so exactly."""
    return f"{100 * value:.0f} %" if value in (0, 1) else f"{min(max(100 * value, 0.1), 99.9):.1f} %"


def _losses(table: pd.DataFrame) -> list[str]:
    """Where rank was lost, and what became of those images."""
    losing = table[table["deficient"] > 0]
    if losing.empty:
        return []
    named = [
        f"{table_name(str(name))} (from step {int(part['first_deficient_step'].min())}, lowest rank "
        f"{int(part['rank_lowest'].min())} of {int(part['outputs'].iloc[0])})"
        for name, part in losing.groupby("table", sort=False)
    ]
    lost, kept = (_rate(losing, group) for group in ("deficient", "always_full"))
    return [
        f"Where: rank is lost in {len(losing)} of {len(table)} rows: {listed(named)}.",
        f"What it costs: in these rows {lost} of the images that lost rank reach the target and {kept} of those that "
        "did not. Images that stay in work longer have more occasions to lose rank and are the harder ones, and the "
        "same images stand in several rows: this is no proof that the loss is the cause.",
    ]


def _rate(rows: pd.DataFrame, group: str) -> str:
    found, images = int(rows[f"{group}_successes"].sum()), int(rows[group].sum())
    return f"{found} of {images} ({_percent(found / images)})" if images else "none (there are none)"


def _ratios(table: pd.DataFrame) -> list[str]:
    known = table.dropna(subset=["ratio_first_median", "ratio_last_median"])
    if known.empty:
        return []
    falls = int((known["ratio_last_median"] < known["ratio_first_median"]).sum())
    rises = int((known["ratio_last_median"] > known["ratio_first_median"]).sum())
    first, last = (float(np.median(known[f"ratio_{end}_median"])) for end in ("first", "last"))
    return [
        f"Condition: from an image's first to its last step the median ratio of least to largest singular value falls "
        f"in {falls} and rises in {rises} of {len(known)} rows; over the rows its median is {scientific(first)} at "
        f"first and {scientific(last)} at last, and {scientific(known['ratio_last_least'].min())} at the least."
    ]
