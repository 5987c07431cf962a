"""Which measure of an adversarial example says how well it transfers: softmax, logits, distance, steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wolfe.report.concordance import REPLICATES, Ranking, drawn, interval, over_all_steps, within_steps
from wolfe.report.grid import Column
from wolfe.report.softmax_findings import findings
from wolfe.report.softmax_records import (
    KINDS,
    MEASURES,
    Examples,
    examples_of,
    first_step,
    kept,
    pairs_of,
    read_softmax,
)
from wolfe.report.summary import wilson_interval
from wolfe.report.words import MISSING, fixed, proportion, significant

__all__ = ["columns", "findings", "lines", "places", "reading"]

# Examples of so many steps are ranked at most, evenly spread: beyond, steps add little and take long.
_MOST_STEPS = 100
REFERENCE = "softmax"
"""The measure that the others are set against."""


def lines(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """One line for each kind of examples, ordered pair of models and measure.

    Args:
        spec: the resolved table, with `experiments`.
        results: `results/<study>`.

    Returns:
        What the line is about; how well the measure ranks, `within` the examples of a step and over `all` steps, by
        transfer and (`_any`) by whether the other model decides for any wrong class; and, the same for all measures
        of a pair, what became of the examples (see `_outcome`).

    Raises:
        FileNotFoundError: an experiment has not been run.
        ValueError: its records are damaged or lack a pair.
    """
    found = []
    for experiment in spec["experiments"]:
        records, run = read_softmax(results, experiment["name"])
        for kind, (source, other) in _groups(experiment):
            examples = examples_of(records, kind, source, other)
            named = {"kind": kind, "dataset": experiment["dataset"], "model": source, "other": other}
            outcome = _outcome(examples) | {"parameters": _parameters(run, kind)}
            for measure, ranked in _ranked(examples).items():
                place = {"table": experiment["name"], "slug": _slug(kind, source, other, measure)}
                found.append(place | named | {"measure": measure} | ranked | outcome)
    return pd.DataFrame(found)


def _groups(experiment: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    for kind in KINDS:
        for pair in pairs_of(experiment):
            yield kind, pair


def _slug(kind: str, source: str, other: str, measure: str) -> str:
    return f"{kind}/{source}/{other}/{measure}"


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Experiment and slug of every line."""
    return [
        (experiment["name"], _slug(kind, *pair, measure))
        for experiment in spec["experiments"]
        for kind, pair in _groups(experiment)
        for measure in MEASURES
    ]


def _parameters(run: Mapping[str, Any], kind: str) -> str:
    """The multipliers of an attack, as readers see them."""
    parameters = run["attacks"][kind]["parameters"]
    names = [name for name in ("smaller_multiplier", "multiplier") if name in parameters]
    return " and ".join(f"{parameters[name]:g}" for name in names)


def _ranked(examples: Examples) -> dict[str, dict[str, float]]:
    """How well each measure ranks the examples that are adversarial to the attacked model, from the first step on."""
    steps = examples.transferred.shape[1]
    chosen = np.unique(np.linspace(1, steps - 1, min(steps - 1, _MOST_STEPS)).round().astype(int))
    valid = examples.adversarial[:, chosen]
    draws = drawn(len(valid), examples.kind, examples.source, examples.other)
    found: dict[str, dict[str, float]] = {measure: {} for measure in MEASURES}
    for name, rank in (("within", within_steps), ("all", over_all_steps)):
        for ending, yes in (("", examples.transferred), ("_any", examples.changed)):
            ranks = {
                measure: rank(examples.measures[measure][:, chosen], yes[:, chosen], valid, draws)
                for measure in MEASURES
            }
            for measure, ranking in ranks.items():
                found[measure] |= _numbers(ranking, ranks[REFERENCE], f"{name}{ending}")
    return found


def _numbers(ranking: Ranking, reference: Ranking, name: str) -> dict[str, float]:
    """What is told of a ranking: `gain` is its AUC less that of the softmax, on the same draws."""
    low, high = interval(ranking.replicates)
    numbers = {f"auc_{name}": ranking.auc, f"auc_{name}_95_low": low, f"auc_{name}_95_high": high}
    low, high = interval(ranking.replicates - reference.replicates)
    gain = ranking.auc - reference.auc
    numbers |= {f"gain_{name}": gain, f"gain_{name}_95_low": low, f"gain_{name}_95_high": high}
    numbers |= {f"correlation_{name}": ranking.correlation, f"tied_{name}": ranking.tied}
    return numbers | {f"pairs_{name}": ranking.pairs}


def _outcome(examples: Examples) -> dict[str, Any]:
    """What became of a pair's examples.

    `transferred` counts those that transfer after the last step, and so stay when data are cleaned; `dropped` the
    rest. `adversarial` counts those that the attacked model then decides for a class asked for, `adversarial_low` and
    `adversarial_certain` those of them with a softmax of at most one half and of exactly 1. `certain` counts images
    with a softmax of exactly 1 at any step, `certain_step_median` is over the first such step of each, and
    `certain_transferred` counts those of them that transfer there already.
    """
    images = len(examples.image_ids)
    stay = kept(examples.transferred)
    low, high = wilson_interval(int(stay.sum()), images)
    first = first_step(examples.adversarial & (examples.measures["softmax"] == 1))
    there = ~np.isnan(first)
    transferred = examples.transferred[there, first[there].astype(int)]
    softmax, activation = examples.measures["softmax"], examples.measures["activation"]
    return {
        "images": images,
        "steps": examples.transferred.shape[1] - 1,
        "transferred": int(stay.sum()),
        "dropped": int((~stay).sum()),
        "adversarial": int(examples.adversarial[:, -1].sum()),
        "adversarial_low": int((examples.adversarial[:, -1] & (softmax[:, -1] <= 0.5)).sum()),
        "adversarial_certain": int((examples.adversarial[:, -1] & (softmax[:, -1] == 1)).sum()),
        "transferred_share": stay.mean(),
        "transferred_95_low": low,
        "transferred_95_high": high,
        "transferred_float": int(examples.transferred_float.sum()),
        "changed": int(examples.changed[:, -1].sum()),
        "certain": int(there.sum()),
        "certain_step_median": float(np.median(first[there])) if there.any() else np.nan,
        "certain_transferred": int(transferred.sum()),
        "kept_below_one": int((softmax[stay, -1] < 1).sum()),
        "kept_softmax_mean": softmax[stay, -1].mean() if stay.any() else np.nan,
        "activation_start_mean": activation[:, 0].mean(),
        "activation_end_mean": activation[:, -1].mean(),
        "l2_end_median": float(np.median(examples.measures["l2"][:, -1])),
    }


def columns(_: pd.DataFrame) -> list[Column]:
    """What readers see."""
    within, over = "Within a step", "Over all steps"
    return [
        Column("", "Examples", lambda line: KINDS[line["kind"]], text=True),
        Column("", "From", lambda line: str(line["model"]), text=True),
        Column("", "To", lambda line: str(line["other"]), text=True),
        Column("", "Measure", lambda line: MEASURES[line["measure"]], text=True),
        Column(within, "AUC [95 %]", lambda line: _with_interval(line, "within")),
        Column(within, "rank correlation", lambda line: fixed(line["correlation_within"])),
        Column(within, "equal", lambda line: _percent(line["tied_within"])),
        Column(within, "AUC, any wrong class", lambda line: _with_interval(line, "within_any")),
        Column(over, "AUC [95 %]", lambda line: _with_interval(line, "all")),
        Column(over, "rank correlation", lambda line: fixed(line["correlation_all"])),
        Column(over, "equal", lambda line: _percent(line["tied_all"])),
        Column(over, "AUC, any wrong class", lambda line: _with_interval(line, "all_any")),
        Column("Of the pair", "at the target", lambda line: _once(line, f"{line['adversarial']} of {line['images']}")),
        Column("Of the pair", "transferred [95 %]", lambda line: _once(line, _transferred(line))),
        Column("Of the pair", "any wrong class", lambda line: _once(line, fixed(line["changed"] / line["images"]))),
        Column("Of the pair", "dropped", lambda line: _once(line, f"{line['dropped']} of {line['images']}")),
        Column("Of the pair", "softmax 1 from step", lambda line: _once(line, _certain(line))),
    ]


def _once(line: Mapping[str, Any], text: str) -> str:
    """What all measures of a pair share is shown beside the first of them."""
    return text if line["measure"] == REFERENCE else ""


def _transferred(line: Mapping[str, Any]) -> str:
    return proportion(line["transferred_share"], line["transferred_95_low"], line["transferred_95_high"])


def _certain(line: Mapping[str, Any]) -> str:
    if not line["certain"]:
        return "never"
    return f"{significant(line['certain_step_median'], 2)} ({line['certain']} of {line['images']})"


def _with_interval(line: Mapping[str, Any], name: str) -> str:
    return proportion(line[f"auc_{name}"], line[f"auc_{name}_95_low"], line[f"auc_{name}_95_high"])


def _percent(share: float) -> str:
    return MISSING if pd.isna(share) else f"{100 * share:.0f} %"


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    made = {str(kind): part.iloc[0] for kind, part in table.groupby("kind", sort=False)}
    words = {"over_optimised": "over-optimised ones for one class", "multi_class": "those with two classes for both"}
    multipliers = "; ".join(f"{words[kind]}: {line['parameters']}" for kind, line in made.items())
    steps = int(table["steps"].max())
    return (
        f"Examples go up the logits of the classes asked for through {steps} steps (multipliers of the gradient by the "
        f"normalised input: {multipliers}) and are judged in whole grey levels. They transfer where the other model "
        "decides for a class asked for. Measures are the attacked model's, softmax in single precision; only examples "
        "that it decides for a class asked for are ranked: a wrong decision of another kind is no example. AUC is the "
        "share of pairs, one example that transfers and one that "
        "does not, which the measure ranks rightly, equal ones half (0.5 says nothing); 'equal' is the share of pairs "
        "in which it does not differ. A further AUC takes every wrong decision of the other model for transfer. Within "
        "a step pairs are of the same step, and the rank correlation (Spearman's, with transfer as 0 or 1) is the mean "
        "over steps by their pairs; over all steps every image is there once a step. Intervals: percentiles over "
        f"{REPLICATES} draws of images with replacement (AUC), Wilson's "
        f"(transferred). {MISSING} stands where a measure is constant or there is no pair. Dropped are the examples "
        "that do not transfer after the last step; the last column is the median of the first step with a softmax of "
        "exactly 1, and how many images have one."
    )
