"""What a table of losses says: the order of the losses, where their budget ends, and what they cost."""

from __future__ import annotations

import pandas as pd

from wolfe.report.losses_runs import LOSSES, SETTINGS
from wolfe.report.words import fixed, listed, scientific, significant


def findings(table: pd.DataFrame) -> list[str]:
    """What follows: the order of the losses in each setting, what they end with, and what they cost.

    Args:
        table: the full table.
    """
    says = [f"{int(table['images'].max())} images, {len(table)} runs; the table losses_claims tests the differences."]
    for setting, part in table.groupby("setting", sort=False):
        says += [_order(str(setting), part), _limits(str(setting), part)]
    return [*says, _times(table)]


def _order(setting: str, part: pd.DataFrame) -> str:
    ordered = part.sort_values("iterations_censored_mean", kind="stable")
    steps = [f"{LOSSES[line['loss']]} {fixed(line['iterations_censored_mean'], 1)}" for _, line in ordered.iterrows()]
    far = [
        f"{LOSSES[line['loss']]} {significant(line['l2_first_mean'])} and {significant(line['linf_first_mean'])}"
        for _, line in part.iterrows()
    ]
    never = [
        f"{line['images'] - line['changed']} under {LOSSES[line['loss']]}"
        for _, line in part.iterrows()
        if line["changed"] < line["images"]
    ]
    unchanged = f" Never changed within the budget: {listed(never)}." if never else " Every image changes."
    return (
        f"{_capital(SETTINGS[setting])}: mean steps to the first change, the whole budget for images that never "
        f"change, {listed(steps)}; mean L2 and Linf at the first change {listed(far)}.{unchanged}"
    )


def _limits(setting: str, part: pd.DataFrame) -> str:
    shown = [
        f"{LOSSES[line['loss']]} {significant(line['logit_target_end_mean'])} (L2 "
        f"{significant(line['l2_end_mean'])}, gradient {_faded(line)})"
        for _, line in part.iterrows()
    ]
    return f"Where the budget ends, {SETTINGS[setting]}: mean logit of the target {listed(shown)}."


def _faded(line: pd.Series) -> str:
    start, end = line["gradient_start_median"], line["gradient_end_median"]
    return f"from a median of {significant(start)} to {significant(end) if end >= 1e-3 else scientific(end)}"


def _times(table: pd.DataFrame) -> str:
    means = table.groupby("loss", sort=False)[["seconds", "evaluations"]].sum()
    each = (1000 * means["seconds"] / means["evaluations"]).sort_values(kind="stable")
    shown = [f"{LOSSES[str(loss)]} {fixed(value)}" for loss, value in each.items()]
    return (
        f"Time for one gradient of one image, in milliseconds over both settings: {listed(shown)}; the slowest takes "
        f"{fixed(each.iloc[-1] / each.iloc[0])} times as long as the fastest."
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
