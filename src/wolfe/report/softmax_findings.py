"""What the table of predictors says of the paper's claims on softmax, logits and transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from wolfe.report.softmax_records import KINDS, MEASURES
from wolfe.report.words import fixed, listed, significant

FEWEST = 10
"""Fewer examples decide nothing."""
_FIRST = next(iter(MEASURES))


def findings(table: pd.DataFrame) -> list[str]:
    """What follows from the table, one paragraph each; the first one opens.

    Args:
        table: the full table.
    """
    kinds = {str(kind): part for kind, part in table.groupby("kind", sort=False)}
    says = [_opening(kinds)]
    says += [_best(kind, part) for kind, part in kinds.items()]
    if "over_optimised" in kinds:
        says.append(_quickly(_pairs(kinds["over_optimised"])))
    if "multi_class" in kinds:
        says.append(_masked(_pairs(kinds["multi_class"])))
    says += [_activation(kinds), *(_spread(kind, part) for kind, part in kinds.items())]
    return [text for text in says if text]


def _pairs(part: pd.DataFrame) -> pd.DataFrame:
    """One line for each pair of models: what all measures share."""
    return part[part["measure"] == _FIRST]


def _mean(part: pd.DataFrame, measure: str, column: str) -> float:
    return float(part.loc[part["measure"] == measure, column].mean())


def _opening(kinds: Mapping[str, pd.DataFrame]) -> str:
    shown = []
    for kind, part in kinds.items():
        pairs = _pairs(part)
        done, images = int(pairs["transferred"].sum()), int(pairs["images"].sum())
        changed, own = int(pairs["changed"].sum()), int(pairs["adversarial"].sum())
        low, certain = int(pairs["adversarial_low"].sum()), int(pairs["adversarial_certain"].sum())
        shown.append(
            f"{KINDS[kind].lower()}: of {images:,} after the last step {_percent(own, images)} are at a class asked "
            f"for on the attacked model ({_percent(low, own)} of these with a softmax of one half at most, "
            f"{_percent(certain, own)} of exactly 1), {_percent(done, images)} transfer "
            f"({_percent(int(pairs['transferred_float'].sum()), images)} before rounding; "
            f"{int(pairs['dropped'].sum())} are dropped in cleaning), {_percent(changed, images)} change the decision"
        )
    return f"Transfer, examples of all ordered pairs together: {'; '.join(shown)}."


def _best(kind: str, part: pd.DataFrame) -> str:
    """The measures in order of what they say at the same step, and over all steps."""
    if part["auc_within"].isna().all():
        return f"{KINDS[kind]}: no pair has examples that transfer and examples that do not at the same step."
    return (
        f"{KINDS[kind]}: at the same step the mean AUC over pairs is {_ordered(part, 'within')}; over all steps "
        f"{_ordered(part, 'all')}. Where any wrong class counts as transfer, it is {_ordered(part, 'within_any')} at "
        f"the same step; over all steps {_ordered(part, 'all_any')}. In brackets: in how many pairs of models the "
        "measure ranks better, and worse, than the softmax, with a 95 % interval of the difference that leaves out 0."
    )


def _ordered(part: pd.DataFrame, name: str) -> str:
    """The measures by their mean AUC, the best first; at the same step the step says nothing."""
    means = {measure: _mean(part, measure, f"auc_{name}") for measure in MEASURES}
    shown = [measure for measure in sorted(means, key=lambda one: -means[one]) if not pd.isna(means[measure])]
    if name.startswith("within"):
        shown = [measure for measure in shown if measure != "step"]
    brackets = {measure: "" if measure == _FIRST else f" ({_surely(part, measure, name)})" for measure in shown}
    return listed([f"{MEASURES[measure]} {fixed(means[measure])}{brackets[measure]}" for measure in shown])


def _surely(part: pd.DataFrame, measure: str, name: str) -> str:
    """In how many pairs a measure is surely better, or worse, than the softmax."""
    own = part[part["measure"] == measure]
    better = int((own[f"gain_{name}_95_low"] > 0).sum())
    worse = int((own[f"gain_{name}_95_high"] < 0).sum())
    return f"{better} better, {worse} worse"


def _quickly(pairs: pd.DataFrame) -> str:
    """Whether full confidence comes at once, and what transfers by then."""
    sources = _sources(pairs)
    certain, images = int(sources["certain"].sum()), int(sources["images"].sum())
    if not certain:
        return "Full confidence: no over-optimised example reaches a softmax of exactly 1; it hides nothing here."
    steps = [
        f"{significant(line['certain_step_median'], 2) if line['certain'] else 'none'} ({line['model']})"
        for line in _rows(sources)
    ]
    seen = int(pairs["certain"].sum())
    soon = (sources["certain_step_median"] <= sources["steps"] / 2) & (sources["certain"] >= sources["images"] / 2)
    by_then = _percent(int(pairs["certain_transferred"].sum()), seen)
    at_the_end = _percent(int(pairs["transferred"].sum()), int(pairs["images"].sum()))
    return (
        f"Full confidence (the paper: reached almost at once): of {images} over-optimised examples {certain} reach a "
        f"softmax of exactly 1 in single precision, in the median at step {listed(steps)} of "
        f"{int(pairs['steps'].max())}; {by_then} of them transfer by then, {at_the_end} of all at the end. That most "
        f"examples are there within half of the steps, and the softmax then hides how far they go, holds for "
        f"{int(soon.sum())} of {len(soon)} attacked models here."
    )


def _masked(pairs: pd.DataFrame) -> str:
    """Whether strong examples pass for weak ones."""
    stay, below = int(pairs["transferred"].sum()), int(pairs["kept_below_one"].sum())
    if not stay:
        return "Two classes: no example transfers after the last step, so none is masked as a weak one."
    softmax = float((pairs["kept_softmax_mean"].fillna(0) * pairs["transferred"]).sum() / stay)
    verdict = "holds" if below >= 0.9 * stay else "holds for more than half" if below > 0.5 * stay else "does not hold"
    verdict = verdict if stay >= FEWEST else "rests on too few examples"
    return (
        f"Masked as weak (the paper: in the end almost all are below full confidence, though all transfer): of {stay} "
        f"examples with two classes that transfer after the last step {below} ({_percent(below, stay)}) have a softmax "
        f"below 1, {fixed(softmax)} in the mean. This {verdict} here."
    )


def _activation(kinds: Mapping[str, pd.DataFrame]) -> str:
    """Whether the highest logit tells more, and what two classes cost it."""
    ends = {kind: float(_sources(part)["activation_end_mean"].mean()) for kind, part in kinds.items()}
    start = float(pd.concat([_sources(part) for part in kinds.values()])["activation_start_mean"].mean())
    gains = [
        f"{KINDS[kind].lower()} {_mean(part, 'activation', 'gain_all'):+.2f} over all steps and "
        f"{_mean(part, 'activation', 'gain_within'):+.2f} within a step"
        for kind, part in kinds.items()
        if part["gain_within"].notna().any()
    ]
    known = f"the AUC of the highest logit less that of the softmax is, in the mean over pairs, {'; '.join(gains)}; "
    shown = [f"{significant(value)} ({KINDS[kind].lower()})" for kind, value in ends.items()]
    text = (
        f"Logits (the paper: better clues than the softmax, but not enough by themselves): {known if gains else ''}the "
        f"highest logit goes from {significant(start)} on the genuine images to {listed(shown)} at the last step"
    )
    if {"over_optimised", "multi_class"} <= set(ends):
        lower = ends["multi_class"] < ends["over_optimised"]
        text += f"; with two classes it ends {'lower, as in the paper' if lower else 'no lower, unlike in the paper'}"
    return f"{text}."


def _sources(part: pd.DataFrame) -> pd.DataFrame:
    """One line for each attacked model."""
    return _pairs(part).drop_duplicates("model")


def _spread(kind: str, part: pd.DataFrame) -> str:
    """Whether all attacked models behave alike."""
    own = part[(part["measure"] == _FIRST) & part["auc_all"].notna()]
    if own.empty or own["model"].nunique() < 2:
        return ""
    shown = []
    for model, lines in own.groupby("model", sort=False):
        aucs = listed([fixed(value) for value in lines["auc_all"]])
        shown.append(f"{model} {aucs}")
    return (
        f"Models, {KINDS[kind].lower()} (the paper: the same for all three): the softmax's AUC over all steps, from "
        f"each to the others, is {'; '.join(shown)}."
    )


def _rows(part: pd.DataFrame) -> list[dict[Any, Any]]:
    return list(part.to_dict("records"))


def _percent(count: int, whole: int) -> str:
    return f"{100 * count / whole:.0f} %" if whole else "none"
