"""What a matrix of detectors says: attacks never seen, attacks seen, and what rounding and compression change."""

from __future__ import annotations

import pandas as pd

from wolfe.detection_lines import LEARNT, POOLED
from wolfe.report.words import fixed, listed

FEWEST = 4
"""Over fewer attacks a rank correlation says nothing."""


def findings(table: pd.DataFrame) -> list[str]:
    """What follows from a matrix, one paragraph each; the first one opens.

    Args:
        table: the full table.
    """
    failed = list(dict.fromkeys(table.loc[table["images"] == 0, "label"]))
    table = table[table["images"] > 0]
    single = table[table["trained_on"] != POOLED]
    pooled = table[table["trained_on"] == POOLED]
    without = f"No image to detect: no target was reached by {listed(failed)}." if failed else ""
    says = [
        _opening(table),
        without,
        _pooled(pooled),
        _distance(pooled),
        _single(single),
        _rounding(table),
        _compression(table),
    ]
    return [text for text in says if text]


def _better(part: pd.DataFrame, transform: str = LEARNT) -> int:
    """How many lines are better than guessing by more than chance explains."""
    return int((part[f"{transform}_auc_95_low"] > 0.5).sum())


def _mean(part: pd.DataFrame, name: str) -> str:
    return fixed(part[name].mean())


def _opening(table: pd.DataFrame) -> str:
    seen, unseen = table[table["learnt"]], table[~table["learnt"]]
    text = (
        "On 8-bit images detectors are better than guessing (the interval of the AUC is above 0.50) in "
        f"{_better(seen)} of {len(seen)} lines on attacks that they learnt from (mean AUC {_mean(seen, '8bit_auc')})"
    )
    if unseen.empty:
        return f"{text}."
    return f"{text} and in {_better(unseen)} of {len(unseen)} on attacks unseen (mean {_mean(unseen, '8bit_auc')})."


def _by_label(part: pd.DataFrame) -> str:
    """Mean AUC by attack, the easiest first."""
    means = part.groupby("label", sort=False)["8bit_auc"].mean().sort_values(ascending=False, kind="stable")
    return listed([f"{label} {fixed(value)}" for label, value in means.items()])


def _pooled(part: pd.DataFrame) -> str:
    seen, unseen = part[part["learnt"]], part[~part["learnt"]]
    if unseen.empty or seen.empty:
        return ""
    return (
        f"Trained on all attacks together, mean AUC over the detectors: {_by_label(seen)}; on attacks never seen, "
        f"{_by_label(unseen)}."
    )


def _distance(part: pd.DataFrame) -> str:
    """Whether larger perturbations are detected better, over the attacks."""
    means = part.groupby(["experiment", "label"])[["l2_median", "8bit_auc"]].mean()
    if len(means) < FEWEST:
        return ""
    correlation = float(means["l2_median"].corr(means["8bit_auc"], method="spearman"))
    if pd.isna(correlation):
        return ""
    course = "more distortion goes with easier detection" if correlation > 0.5 else "distortion does not order them"
    return (
        f"Attacks differ in distortion: over the {len(means)} attacks the rank correlation of their median L2 with the "
        f"mean AUC of the pooled detectors is {fixed(correlation)}, so {course}."
    )


def _single(part: pd.DataFrame) -> str:
    """What training on one attack is worth on the others that were learnt from elsewhere, and on all the rest."""
    if part.empty:
        return ""
    says = []
    for label, group in part.groupby("trained_on", sort=False):
        own, others = group[group["learnt"]], group[~group["learnt"]]
        if len(others):
            says.append(f"{label}: {_mean(own, '8bit_auc')} on its own images, {_mean(others, '8bit_auc')} on others")
    return f"Trained on one attack alone, mean AUC: {'; '.join(says)}." if says else ""


def _rounding(table: pd.DataFrame) -> str:
    change = (table["float_auc"] - table["8bit_auc"]).abs()
    most = table.iloc[int(change.to_numpy().argmax())]
    return (
        f"Rounding to 8 bits changes an AUC by {fixed(change.mean(), 3)} in the mean and {fixed(change.max(), 3)} at "
        f"most ({most['detector']} trained on {most['trained_on']}, tested on {most['label']}); "
        f"{_still(table, '8bit')}."
    )


def _still(table: pd.DataFrame, transform: str) -> str:
    """What becomes of the attacks themselves."""
    lines = table.drop_duplicates(["experiment", "label"])
    share = (lines[f"{transform}_still_at_target"] * lines["images"]).sum() / lines["images"].sum()
    return f"{_percent(share)} of the attacked images are still at their target"


def _compression(table: pd.DataFrame) -> str:
    text = f"After JPEG {_still(table, 'jpeg')}."
    known = table[table["8bit_auc_95_low"] > 0.5]
    if known.empty:
        return text
    before, after = (_percent(1 - known[f"{transform}_genuine"].mean()) for transform in ("8bit", "jpeg"))
    return (
        f"{text} Where a detector is better than guessing on 8-bit images, its mean AUC of {_mean(known, '8bit_auc')} "
        f"becomes {_mean(known, 'jpeg_auc')}, and it takes {after} of the compressed genuine images for adversarial "
        f"({before} uncompressed)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
