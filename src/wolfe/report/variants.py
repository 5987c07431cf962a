"""Variants: rows of other tables run again with one difference, beside the rows as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.report.grid import Column
from wolfe.report.records import read_rows
from wolfe.report.summary import row_label, summarise_records
from wolfe.report.variant_findings import SIDES, findings
from wolfe.report.words import MISSING, fixed, scientific, significant, table_name

__all__ = ["columns", "findings", "lines", "places", "reading"]

_NUMBERS = (
    "successes",
    "asr",
    "asr_95_low",
    "asr_95_high",
    "basr",
    "bits_flipped_share",
    "rmse_mean",
    "mse_mean",
    "l2_median",
    "iterations_mean",
    "passes_per_image_mean",
)


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and slug of the variant of every line."""
    return [(row["table"], row["variant"]["slug"]) for row in spec["rows"]]


def folders(spec: Mapping[str, Any], attacks: Path) -> list[Path]:
    """The folders of all runs that the table rests on."""
    return [Path(attacks) / row["model"] / row["targets"] / row[side]["slug"] for row in spec["rows"] for side in SIDES]


def lines(spec: Mapping[str, Any], attacks: Path) -> pd.DataFrame:
    """One line for each variant.

    Args:
        spec: the resolved table; each of its `rows` has `base` and `variant`.
        attacks: the folder `attacks`.

    Returns:
        Which row it is, the numbers of both sides and their paired comparison.

    Raises:
        ValueError: a file is damaged, or base and variant differ in images or targets.
    """
    return pd.DataFrame([_line(row, attacks) for row in spec["rows"]])


def _line(row: Mapping[str, Any], attacks: Path) -> dict[str, Any]:
    folder = Path(attacks) / row["model"] / row["targets"]
    pair = {"name": row["table"], "rows": [row[side] for side in SIDES]}
    results = read_rows(pair, folder)
    records = {side: results[row[side]["slug"]].records for side in SIDES}
    line = {name: row[name] for name in ("table", "dataset", "model", "encoding", "difference")}
    line |= {"attack": row["base"]["attack"], "images": len(records["base"])}
    for side in SIDES:
        summary = summarise_records(records[side])
        line |= {f"{side}_slug": row[side]["slug"], f"{side}_label": row_label(row[side])}
        line |= {f"{side}_cut": bool(row[side]["cut"])} | {f"{side}_{name}": summary[name] for name in _NUMBERS}
        line |= {f"{side}_{name}": value for name, value in own_count(records[side]).items()}
    return line | compare(records["base"], records["variant"])


def own_count(records: pd.DataFrame) -> dict[str, float]:
    """Success as an attack itself counts it: it saw the target on its way, whatever image it returned.

    Released code that stores another image than the one it judged counts so.

    Returns:
        The share of the images, and the mean MSE of what was returned for them; NaN where there are none.
    """
    seen = records["success"].astype(bool) | (records["first_success"] > 0)
    return {"own_asr": seen.mean(), "own_mse_mean": records.loc[seen, "mse"].mean()}


def compare(base: pd.DataFrame, variant: pd.DataFrame) -> dict[str, Any]:
    """Two runs on the same images, image by image.

    Args:
        base: records, one line an image.
        variant: records of the same images.

    Returns:
        How many images both reach or only one, on how many of the former either needs the smaller perturbation (those
        at the target from the start left out), and the median ratio of the variant's L2 to the base's.
    """
    pairs = base.merge(variant, on="image_id", suffixes=("_base", "_variant"), validate="one_to_one")
    first, second = pairs["success_base"].astype(bool), pairs["success_variant"].astype(bool)
    both = pairs[first & second & (pairs["l2_base"] > 0) & (pairs["l2_variant"] > 0)]
    return {
        "both": int((first & second).sum()),
        "base_only": int((first & ~second).sum()),
        "variant_only": int((second & ~first).sum()),
        "base_nearer": int((both["l2_base"] < both["l2_variant"]).sum()),
        "variant_nearer": int((both["l2_variant"] < both["l2_base"]).sum()),
        "l2_ratio_median": (both["l2_variant"] / both["l2_base"]).median(),
    }


def columns(table: pd.DataFrame) -> list[Column]:
    """What readers see: base, arrow, variant in each cell."""
    chosen = [
        Column("", "Table", lambda line: table_name(line["table"]), text=True),
        Column("", "Row", lambda line: line["base_label"] + (" (budget cut)" if line["base_cut"] else ""), text=True),
        Column("", "Difference", lambda line: line["difference"], text=True),
        _beside("ASR", "asr", fixed),
        _beside("ASR by the attack's own count", "own_asr", fixed),
        _beside("bASR", "basr", lambda value: fixed(value, 4)),
        _beside("MSE", "mse_mean", scientific),
        _beside("L2 median", "l2_median", significant),
        _beside("n_it", "iterations_mean", lambda value: fixed(value, 1)),
        _beside("passes", "passes_per_image_mean", lambda value: fixed(value, 0)),
        Column("On the same images", "found by base, variant only", _only),
        Column("On the same images", "L2 ratio", lambda line: fixed(line["l2_ratio_median"])),
        Column("On the same images", "nearer: base, variant", _nearer),
    ]
    if table["base_basr"].notna().any():
        return chosen
    return [column for column in chosen if column.header != "bASR"]


def _beside(header: str, name: str, show: Any) -> Column:
    def cell(line: Mapping[str, Any]) -> str:
        values = [line[f"{side}_{name}"] for side in SIDES]
        return MISSING if all(pd.isna(value) for value in values) else " \N{RIGHTWARDS ARROW} ".join(map(show, values))

    return Column("As it is \N{RIGHTWARDS ARROW} with the difference", header, cell)


def _only(line: Mapping[str, Any]) -> str:
    return f"{line['base_only']}, {line['variant_only']}"


def _nearer(line: Mapping[str, Any]) -> str:
    return f"{line['base_nearer']}, {line['variant_nearer']}"


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    cut = bool((table["base_cut"] | table["variant_cut"]).any())
    return (
        "Each row runs a row of the table named once more with one difference, on the same images and targets. "
        "Success rates and passes are over all images, MSE, L2 and n_it over the successes of each side; the L2 ratio "
        "(variant to base, median) and who is nearer are over the images that both reach. ASR judges the image that "
        "is returned; by its own count an attack succeeds once it has seen the target, whatever it returns."
        + (" Both sides of a row whose budget was cut ran with the cut one." if cut else "")
    )
