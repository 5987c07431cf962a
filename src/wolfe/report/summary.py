"""From records to the numbers of a table: one line a row, every number with its unit in its name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from wolfe.report.records import STATUSES, RowRecords


def wilson_interval(successes: int, images: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion (E. B. Wilson, JASA 22, 1927).

    Args:
        successes: how many of the images, 0 to `images`.
        images: how many there are, at least 1.
        confidence: level of the interval, in (0, 1).

    Returns:
        Lower and upper end, each in [0, 1].
    """
    interval = binomtest(successes, images).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def passes(records: pd.DataFrame) -> pd.Series:
    """Passes through the network per image: forward, backward (vjp) and forward-mode (jvp) ones."""
    return records["forwards"] + records["vjps"] + records["jvps"]


def is_multi_label(records: pd.DataFrame) -> bool:
    """Whether targets are 0/1 vectors, not class indices."""
    return np.ndim(records["target"].iloc[0]) > 0


def summarise_records(records: pd.DataFrame) -> dict[str, Any]:
    """The numbers of one row.

    Distortions, iterations and seconds are over the successes and missing (NaN) when there are none; success rates,
    bit success and passes are over all images. `basr` is the share of bits that equal the target's, over all bits
    and all images, and is given for 0/1 vectors only, as in the published tables. `consistent` is the share of all
    images whose decided labels obey the hierarchy, for data sets that have one. `bits_flipped_share` is over the bits
    that were to be flipped, as the JMA paper's text has it, and `rmse_mean` is the distortion by the formula that it
    prints, whose root its tables lack.

    Args:
        records: one line an image.

    Returns:
        Column name to value.
    """
    success = records["success"].astype(bool)
    found = records[success]
    images, successes = len(records), int(success.sum())
    low, high = wilson_interval(successes, images)
    multi_label = is_multi_label(records)
    bits_equal = (records["bits_equal"] / records["bits_total"]).mean()
    summary = {
        "images": images,
        "successes": successes,
        "asr": successes / images,
        "asr_95_low": low,
        "asr_95_high": high,
        "basr": bits_equal if multi_label else np.nan,
        "consistent": _consistent(records),
        "mse_mean": found["mse"].mean(),
        "ssim_mean": found["ssim"].mean(),
        "iterations_mean": found["iterations"].mean(),
        "seconds_per_image_mean": found["seconds"].mean(),
        "batch_size": int(records["batch_size"].max()),
        "l2_median": found["l2"].median(),
        "l2_90th_percentile": found["l2"].quantile(0.9),
        "passes_per_image_mean": passes(records).mean(),
        "asr_8bit": (success & records["success_8bit"].astype(bool)).mean(),
        "bits_asked_mean": records["bits_asked"].mean(),
        "bits_flipped_share": (records["bits_reached"] / records["bits_asked"]).mean(),
        "rmse_mean": found["rmse"].mean(),
        "bits_total": int(records["bits_total"].iloc[0]),
        "multi_label": multi_label,
    }
    counts = records["status"].value_counts()
    return summary | {f"status_{status}": int(counts.get(status, 0)) for status in STATUSES}


def _consistent(records: pd.DataFrame) -> float:
    """The share of images whose labels obey their hierarchy; NaN where there is none."""
    known = records["consistent"].dropna() if "consistent" in records else pd.Series(dtype=object)
    return float(known.astype(bool).mean()) if len(known) else np.nan


def summarise(spec: Mapping[str, Any], results: Mapping[str, RowRecords]) -> pd.DataFrame:
    """The whole table, ours only.

    Args:
        spec: a resolved table.
        results: slug to records.

    Returns:
        One line a row in the order of the table: what the row is, its numbers, where it ran.
    """
    lines, first_label = [], dict[str, str]()
    for row in spec["rows"]:
        # Under a cut budget different published rows can come down to the same run.
        first = first_label.setdefault(row["slug"], row_label(row))
        result = results[row["slug"]]
        lines.append(
            {
                "slug": row["slug"],
                "attack": row["attack"],
                "label": row_label(row),
                "origin": row["origin"],
                "same_run_as": "" if first == row_label(row) else first,
                "budget_cut": bool(row["cut"]),
                "comparable": not row["cut"],
                "parameters": json.dumps(row["parameters"]),
                "parameters_asked": json.dumps(row["asked"]),
            }
            | summarise_records(result.records)
            | {"device": str(result.run.get("device", "")), "threads": result.run.get("threads")}
        )
    return pd.DataFrame(lines)


def row_label(row: Mapping[str, Any]) -> str:
    """A row's name as printed, with one space after each comma; a row of our own says so."""
    label = re.sub(r",\s*", ", ", str(row["label"]))
    return f"{label} (ours)" if row["origin"] == "ours" and "ours" not in label else label
