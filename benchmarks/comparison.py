"""A finished study's rows beside the published ones: which success rates differ by more than chance explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, fisher_exact

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
    for path in sorted((results / "tables").glob("*.csv")):
        table = pd.read_csv(path)
        if not {"published_asr", "slug"} <= set(table.columns):
            continue
        for line in table.to_dict("records"):
            row = {str(name): value for name, value in line.items()}
            if pd.notna(row["published_asr"]) and not row["budget_cut"]:
                lines.append(_line(path.stem, row, _records(results, row["slug"], row)))
    return pd.DataFrame(lines)


def _records(results: Path, slug: str, row: dict[str, Any]) -> pd.DataFrame:
    """The records of a row's run: of those that are called so, the one with its numbers."""
    for path in sorted((results / "attacks").glob(f"*/*/{slug}/records.parquet")):
        records = pd.read_parquet(path)
        if len(records) == row["images"] and int(records["success"].sum()) == row["successes"]:
            return records
    raise FileNotFoundError(f"{results} has no records of {slug}")


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
        "MSE ratio": round(row["mse_mean"] / row["published_mse"], 2) if len(distances) else np.nan,
        "n_it": round(row["iterations_mean"], 1),
        "published n_it": row["published_n_it"],
    }


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
