"""A finished study's rows beside the published ones: which success rates differ by more than chance explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, fisher_exact

from wolfe.files import read_json
from wolfe.report.records import attacks_of, read_row
from wolfe.report.tables import read_table

# Images that each published row of the JMA paper was measured on.
_PUBLISHED_IMAGES = 200
_LEVEL = 0.05


def compared(results: Path) -> pd.DataFrame:
    """One line for each row of the study's tables that has a published counterpart and was not cut.

    Args:
        results: `results/<study>`.

    Returns:
        Ours with 95 % intervals (Wilson's for ASR, bootstrapped over images for the mean MSE), the published numbers,
        and whether the two success rates differ (Fisher's exact test against the published count of 200 images).
        Where either has no success, distances are not compared.
    """
    lines = []
    for spec in read_json(results / "study.json")["tables"]:
        if spec.get("kind", "attacks") != "attacks":
            continue
        for line in read_table(results / "tables" / f"{spec['name']}.csv").to_dict("records"):
            row = {str(name): value for name, value in line.items()}
            if row["published_asr"] and not row["budget_cut"]:
                lines.append(_line(spec["name"], row, _records(attacks_of(spec, results) / row["slug"], row)))
    return pd.DataFrame(lines)


def _records(folder: Path, row: dict[str, Any]) -> pd.DataFrame:
    """The records of a row's run.

    Raises:
        ValueError: the table was made from others.
    """
    records = read_row(folder).records
    if len(records) != row["images"] or int(records["success"].sum()) != row["successes"]:
        raise ValueError(f"{folder} holds other records than the table's: make the table again")
    return records


def _line(table: str, row: dict[str, Any], records: pd.DataFrame) -> dict[str, Any]:
    distances = records.loc[records["success"].astype(bool), "mse"].to_numpy(float)
    published = float(row["published_asr"])
    low, high = _mean_interval(distances)
    return {
        "table": table,
        "row": row["label"],
        "images": row["images"],
        "ASR": f"{row['asr']:.2f} [{row['asr_95_low']:.2f}, {row['asr_95_high']:.2f}]",
        "published ASR": published,
        "success": _verdict(int(row["successes"]), int(row["images"]), published),
        "MSE": f"{row['mse_mean']:.1e} [{low:.1e}, {high:.1e}]" if len(distances) else "",
        "published MSE": row["published_mse"],
        "MSE ratio": _ratio(row["mse_mean"], row["published_mse"]),
        "n_it": round(row["iterations_mean"], 1),
        "published n_it": row["published_n_it"],
    }


def _ratio(ours: float, published: str) -> float:
    """Ours to the published; NaN where either is missing."""
    return round(ours / float(published), 2) if published and not np.isnan(ours) else np.nan


def _verdict(successes: int, images: int, published: float) -> str:
    """Whether the success rate is higher or lower than the published one by more than chance explains."""
    theirs = round(published * _PUBLISHED_IMAGES)
    counts = [[successes, images - successes], [theirs, _PUBLISHED_IMAGES - theirs]]
    if float(fisher_exact(counts).pvalue) >= _LEVEL:
        return "no difference shown"
    return "higher" if successes / images > published else "lower"


def _mean_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean, by drawing the values again; the value itself where they are all the same."""
    if len(values) < 2 or np.ptp(values) == 0:
        return (float(values[0]), float(values[0])) if len(values) else (np.nan, np.nan)
    found = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
