"""What a table of variants says: which differences change the numbers."""

from __future__ import annotations

import pandas as pd

from wolfe.names import attack_name
from wolfe.report.findings import verdict
from wolfe.report.words import fixed, proportion, scientific, table_name

SIDES = ("base", "variant")
"""The row as it is, and with the difference."""


def findings(table: pd.DataFrame) -> list[str]:
    """Which differences change the numbers, and in which direction.

    Args:
        table: the full table.
    """
    rows = [line for _, line in table.iterrows()]
    changed = sum(_changes(line) for line in rows)
    still = sum(_equal(line) for line in rows)
    opening = (
        f"Of {len(rows)} differences {changed} change the success or the distance by more than these images leave to "
        f"chance (exact two-sided sign tests on the paired images, p < 0.05 in either), and {still} change neither on "
        "any image."
    )
    return [opening, *(_paragraph(line) for line in rows), *_formulas(rows)]


def _formulas(rows: list[pd.Series]) -> list[str]:
    """What two formulas of the paper would make of the rows as they are."""
    found = [line for line in rows if not pd.isna(line["base_mse_mean"])]
    labels = [line for line in rows if not pd.isna(line["base_basr"])]
    says = []
    if found:
        line = found[0]
        says.append(
            "Distortion: the paper's formula (Section VI-C) is a root mean square, its tables hold mean squares, and "
            f"so do these. For {line['base_label']} of {table_name(line['table'])} the formula as printed gives "
            f"{scientific(line['base_rmse_mean'])}, the mean of squares {scientific(line['base_mse_mean'])}."
        )
    if labels:
        line = labels[0]
        says.append(
            "bASR: the paper's text speaks of the labels to be flipped, its tables count all labels, and so do these. "
            f"For {line['base_label']} of {table_name(line['table'])} the share over the labels to be flipped is "
            f"{fixed(line['base_bits_flipped_share'], 4)}, over all labels {fixed(line['base_basr'], 4)}."
        )
    return says


def _successes(line: pd.Series) -> str:
    return verdict(line["base_only"], line["variant_only"], "it succeeds less often", "it succeeds more often")


def _distances(line: pd.Series) -> str:
    return verdict(
        line["base_nearer"], line["variant_nearer"], "its perturbation is larger", "its perturbation is smaller"
    )


def _changes(line: pd.Series) -> bool:
    return any(text.startswith("it") for text in (_successes(line), _distances(line)))


def _equal(line: pd.Series) -> bool:
    return not any(line[name] for name in ("base_only", "variant_only", "base_nearer", "variant_nearer"))


def _paragraph(line: pd.Series) -> str:
    who = line["base_label"] if attack_name(line["attack"]) in line["base_label"] else attack_name(line["attack"])
    head = f"{line['difference']} ({table_name(line['table'])}, {who})"
    passes = [line[f"{side}_passes_per_image_mean"] for side in SIDES]
    effort = f"passes per image {fixed(passes[0], 0)} \N{RIGHTWARDS ARROW} {fixed(passes[1], 0)}"
    if _equal(line):
        return f"{head}: the same success and the same distance on every image; {effort}."
    rates = [proportion(*(line[f"{side}_{name}"] for name in ("asr", "asr_95_low", "asr_95_high"))) for side in SIDES]
    text = f"{head}: ASR {rates[0]} \N{RIGHTWARDS ARROW} {rates[1]}, {_successes(line)}; {_own(line)}"
    if pd.isna(line["l2_ratio_median"]):
        return f"{text}no image is reached by both, so no distances to compare; {effort}."
    return f"{text}L2 {line['l2_ratio_median']:.2f} times in the median, {_distances(line)}; {effort}."


def _own(line: pd.Series) -> str:
    """What the attack itself counts, where that differs from the verdict on what it returns."""
    if all(line[f"{side}_own_asr"] == line[f"{side}_asr"] for side in SIDES):
        return ""
    rates, sizes = (
        [show(line[f"{side}_own_{name}"]) for side in SIDES]
        for name, show in (("asr", fixed), ("mse_mean", scientific))
    )
    return (
        f"by the attack's own count {rates[0]} \N{RIGHTWARDS ARROW} {rates[1]}, with MSE {sizes[0]} "
        f"\N{RIGHTWARDS ARROW} {sizes[1]} over these; "
    )
