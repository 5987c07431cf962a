"""How fast and how far four losses move images (Ozbulak et al. 2020, Table I), from what was noted of every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from wolfe.report.grid import Column
from wolfe.report.losses_findings import findings
from wolfe.report.losses_runs import LOSSES, SETTINGS, LossRun, loss_of, loss_rows, read_losses, setting_of
from wolfe.report.summary import wilson_interval
from wolfe.report.words import MISSING, fixed, listed, proportion, scientific, significant

__all__ = ["columns", "findings", "lines", "places", "reading"]

_PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def lines(spec: Mapping[str, Any], results: Path) -> pd.DataFrame:
    """One line for each loss in each setting.

    Args:
        spec: the resolved table, with `part`: the table of attacks whose rows it sums up.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: a row has not been run.
        ValueError: a file is damaged, or there is no such row.
    """
    part = spec["part"]
    found = {str(run.row["slug"]): _named(part, run) | summarise_run(run) for run in read_losses(part, results)}
    return pd.DataFrame([found[slug] for _, slug in places(spec)])


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and slug of every line: the settings and losses in the paper's order."""
    part = spec["part"]
    order = [(setting, loss) for setting in SETTINGS for loss in LOSSES]
    rows = {(setting_of(row), loss_of(row)): row["slug"] for row in loss_rows(part)}
    return [(part["table"], rows[key]) for key in order if key in rows]


def _named(part: Mapping[str, Any], run: LossRun) -> dict[str, Any]:
    """The columns that say what a line is about."""
    parameters = run.row["parameters"]
    length = parameters.get("step_length") or np.nan
    return {
        "table": part["table"],
        "slug": run.row["slug"],
        "label": run.row["label"],
        "dataset": part["dataset"],
        "model": part["model"],
        "setting": run.setting,
        "loss": run.loss,
        "multiplier": parameters.get("multiplier", np.nan) if run.setting == "equal_multiplier" else np.nan,
        "step_length": length if run.setting == "equal_perturbation" else np.nan,
        "steps": run.steps,
    }


def summarise_run(run: LossRun) -> dict[str, Any]:
    """The numbers of one line; means at the first change are over the images that change, and NaN where none does."""
    changed = ~np.isnan(run.first)
    images, count = len(changed), int(changed.sum())
    low, high = wilson_interval(count, images)
    vanished = run.vanished()
    ended = run.records["status"].isin(["timed_out", "not_finite"])
    return {
        "images": images,
        "left_out": run.left_out,
        "broken_off": int(ended.sum()),
        "changed": count,
        "changed_share": count / images,
        "changed_95_low": low,
        "changed_95_high": high,
        **_spread("iterations", run.first[changed]),
        **_interval("iterations", run.first[changed]),
        "iterations_median_of_all": _median_of_all(run.first),
        "iterations_censored_mean": run.censored.mean(),
        **_spread("l2_first", run.at_first("l2")[changed]),
        **_spread("linf_first", run.at_first("linf")[changed]),
        **_ends(run),
        "vanished": int((~np.isnan(vanished)).sum()),
        "vanished_step_median": _median(vanished[~np.isnan(vanished)]),
        "seconds": float(run.records["seconds"].sum()),
        "evaluations": int(run.records["vjps"].sum()),
        "milliseconds_per_evaluation": 1000 * float(run.records["seconds"].sum() / run.records["vjps"].sum()),
        "steps_made_mean": run.made.mean(),
        "batch_size": int(run.records["batch_size"].max()),
        "device": str(run.run.get("device", "")),
    }


def _ends(run: LossRun) -> dict[str, float]:
    """Where the budget leaves softmax, logit and perturbation, and the gradient there and at the start."""
    numbers: dict[str, float] = {}
    for name in ("softmax_target", "logit_target", "l2"):
        last = run.curves[name][:, -1]
        numbers |= {f"{name}_end_mean": last.mean(), f"{name}_end_sd": _deviation(last)}
    lengths = run.curves["gradient_magnitude"]
    return numbers | {"gradient_start_median": _median(lengths[:, 0]), "gradient_end_median": _median(lengths[:, -1])}


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    mean = float(values.mean()) if len(values) else np.nan
    return {f"{name}_mean": mean, f"{name}_sd": _deviation(values), f"{name}_median": _median(values)}


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _median_of_all(first: NDArray[np.float64]) -> float:
    """The median over all images, for which one that never changes counts as later than any; NaN if it is never."""
    middle = float(np.median(np.where(np.isnan(first), np.inf, first)))
    return middle if np.isfinite(middle) else np.nan


def _interval(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """Student's 95 % interval of a mean."""
    if len(values) < 2:
        return {f"{name}_95_low": np.nan, f"{name}_95_high": np.nan}
    half = float(student.ppf(0.975, len(values) - 1)) * _deviation(values) / math.sqrt(len(values))
    return {f"{name}_95_low": float(values.mean()) - half, f"{name}_95_high": float(values.mean()) + half}


def columns(table: pd.DataFrame) -> list[Column]:
    """What readers see."""
    first, end = "First change", f"After {listed([str(steps) for steps in sorted(set(table['steps']))])} steps"
    return [
        Column("", "Setting", lambda line: SETTINGS[line["setting"]], text=True),
        Column("", "Loss", lambda line: LOSSES[line["loss"]], text=True),
        Column(first, "images [95 %]", _changed),
        Column(first, f"steps, mean {_PLUS_MINUS} sd [95 %]", _iterations),
        Column(first, "median of all", lambda line: _of_all(line)),
        Column(first, "mean, never = budget", lambda line: fixed(line["iterations_censored_mean"], 1)),
        Column(first, "L2", lambda line: _plus_minus(line, "l2_first")),
        Column(first, "Linf", lambda line: _plus_minus(line, "linf_first")),
        Column(end, "softmax", lambda line: _probability(line["softmax_target_end_mean"])),
        Column(end, "logit", lambda line: _plus_minus(line, "logit_target_end")),
        Column(end, "L2", lambda line: _plus_minus(line, "l2_end")),
        Column(end, "gradient 0 (from step)", _vanished),
        Column("Time", "all images, s", lambda line: fixed(line["seconds"], 1)),
        Column("Time", "a gradient, ms", lambda line: fixed(line["milliseconds_per_evaluation"])),
    ]


def _changed(line: Mapping[str, Any]) -> str:
    share = proportion(line["changed_share"], line["changed_95_low"], line["changed_95_high"])
    return f"{line['changed']} of {line['images']}: {share}"


def _iterations(line: Mapping[str, Any]) -> str:
    if pd.isna(line["iterations_95_low"]):
        return fixed(line["iterations_mean"], 1)
    interval = f"[{fixed(line['iterations_95_low'], 1)}, {fixed(line['iterations_95_high'], 1)}]"
    return f"{fixed(line['iterations_mean'], 1)} {_PLUS_MINUS} {fixed(line['iterations_sd'], 1)} {interval}"


def _of_all(line: Mapping[str, Any]) -> str:
    middle = line["iterations_median_of_all"]
    return f"above {line['steps']}" if pd.isna(middle) else fixed(middle, 1)


def _plus_minus(line: Mapping[str, Any], name: str) -> str:
    mean, deviation = line[f"{name}_mean"], line[f"{name}_sd"]
    if pd.isna(mean):
        return MISSING
    return f"{significant(mean)} {_PLUS_MINUS} {significant(deviation, 2)}" if not pd.isna(deviation) else str(mean)


def _probability(value: float) -> str:
    """A softmax that reads 1 only where it is so exactly."""
    return f"1 - {scientific(1 - value)}" if 0.99 < value < 1 else fixed(value)


def _vanished(line: Mapping[str, Any]) -> str:
    if not line["vanished"]:
        return f"0 of {line['images']}"
    return f"{line['vanished']} of {line['images']} ({fixed(line['vanished_step_median'], 0)})"


def reading(table: pd.DataFrame) -> str:
    """How to read the table."""
    ends = [
        f"up to {int(table[name].max())} images of a row {words}"
        for name, words in (
            ("left_out", "were at their target from the start and are left out"),
            ("broken_off", "were broken off (time limit or values that are not finite) and keep their last values"),
        )
        if table[name].max()
    ]
    return " ".join(
        part
        for part in (
            *_settings(table),
            "No image stops at its first change: all go on to the end of the budget, or to where the gradient is "
            "exactly zero in single precision (then they keep their last values). First change: the first step whose "
            f"image is decided as the target; mean {_PLUS_MINUS} standard deviation and Student's 95 % interval over "
            "the images that change, whose share comes with Wilson's interval. Images that never change are not "
            "dropped: the median of all has them later than any other, the last mean counts the whole budget for "
            "them, which is too little. L2 and Linf at the first change are over the images that change. Time is "
            "that of all steps of all images together: forward and backward pass, the step and its books; looking "
            f"on, which the curves need, is not in it. On {listed(sorted(set(table['device'])))}, in batches of up "
            f"to {int(table['batch_size'].max())}.",
            f"{' and '.join(ends)}." if ends else "",
            "The values of the paper's own table did not survive in the copy that this project works from.",
        )
        if part
    )


def _settings(table: pd.DataFrame) -> list[str]:
    """What the settings do, each with its own number."""
    multipliers, lengths = (
        listed([f"{value:g}" for value in sorted(set(table[name].dropna()))]) for name in ("multiplier", "step_length")
    )
    words = {
        "equal_multiplier": "Equal multiplier: the loss's gradient by the image (for CE-sign its sign, values in "
        f"[0, 1]) times {multipliers} is added at each step.",
        "equal_perturbation": "Equal perturbation: each step is scaled to the same L2 norm, "
        f"{lengths or 'that of half a grey level a value'}.",
    }
    return [words[setting] for setting in dict.fromkeys(table["setting"])]
