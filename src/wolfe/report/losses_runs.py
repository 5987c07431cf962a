"""Attack runs with one of four losses, read back with what was noted of every step (Ozbulak et al. 2020, Section V-B).

Every image has a value at every step of the budget. One whose gradient vanished, so that nothing moves it any more,
keeps its last values: that is where the loss leaves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wolfe.report.records import attacks_of, read_row, read_trace

LOSSES = {"cross_entropy": "CE", "cross_entropy_sign": "CE-sign", "logit": "Logit", "m_logit": "M-logit"}
"""The losses as the paper prints them, in its order."""
SETTINGS = {"equal_multiplier": "equal multiplier", "equal_perturbation": "equal perturbation"}
SURE = 0.9
"""From this softmax on a class counts as certain, which bounds the sub-spaces S1 and S3."""
STEP_NAMES = (
    *("softmax_initial", "softmax_target", "logit_initial", "logit_target"),
    *("gradient_magnitude", "l2", "linf", "reached"),
)
"""What is noted of every image at every step."""

Curves = NDArray[np.float64]
"""Values (N, T + 1): an image a row; the image as it came, then after each of T steps."""


@dataclass(frozen=True)
class LossRun:
    """A run of one loss over the whole budget.

    Attributes:
        row: of the table of attacks: slug, label, attack and parameters.
        records: one line an image, of those that the attack worked on.
        run: the contents of `run.json`.
        left_out: images that were at their target before the attack, which no step was made on.
        curves: name to values (N, T + 1), N images as in `records`, T steps.
        first: (N,) the step of the first change to the target; NaN where it never comes.
        made: (N,) steps that moved an image.
    """

    row: Mapping[str, Any]
    records: pd.DataFrame
    run: Mapping[str, Any]
    left_out: int
    curves: Mapping[str, Curves]
    first: NDArray[np.float64]
    made: NDArray[np.int64]

    @property
    def loss(self) -> str:
        """One of `LOSSES`."""
        return loss_of(self.row)

    @property
    def setting(self) -> str:
        """One of `SETTINGS`."""
        return setting_of(self.row)

    @property
    def steps(self) -> int:
        """T, the budget."""
        return self.curves["reached"].shape[1] - 1

    @property
    def censored(self) -> NDArray[np.float64]:
        """(N,) steps to the first change, with the budget for images that never change."""
        return np.where(np.isnan(self.first), self.steps, self.first)

    def at_first(self, name: str) -> NDArray[np.float64]:
        """(N,) a value at the first change; NaN where there is none."""
        step = np.nan_to_num(self.first).astype(int)
        return np.where(np.isnan(self.first), np.nan, self.curves[name][np.arange(len(step)), step])

    def vanished(self) -> NDArray[np.float64]:
        """(N,) the step from which on the gradient is exactly zero; NaN where it is not so at the end."""
        zero = self.curves["gradient_magnitude"] == 0
        from_here = np.logical_and.accumulate(zero[:, ::-1], axis=1)[:, ::-1]
        return np.where(from_here[:, -1], from_here.argmax(axis=1), np.nan)


def loss_rows(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a table of attacks that follow one of the losses through the whole budget.

    Raises:
        ValueError: two rows have the same loss and setting.
    """
    rows = [row for row in part["rows"] if row["attack"] == "gradient" and not stops(row)]
    pairs = [(loss_of(row), setting_of(row)) for row in rows]
    twice = sorted({pair for pair in pairs if pairs.count(pair) > 1})
    if twice:
        raise ValueError(f"table {part['table']!r} has two rows of the loss {twice[0][0]} with {twice[0][1]}: keep one")
    return rows


def loss_of(row: Mapping[str, Any]) -> str:
    """The loss of a row of attack `gradient`, one of `LOSSES`; the attack's own default where it names none."""
    return str(row["parameters"].get("loss", "cross_entropy"))


def setting_of(row: Mapping[str, Any]) -> str:
    """Its setting, one of `SETTINGS`, in the same way."""
    return str(row["parameters"].get("setting", "equal_perturbation"))


def stops(row: Mapping[str, Any]) -> bool:
    """Whether a row of attack `gradient` ends an image at its first change."""
    return bool(row["parameters"].get("stop_at_success", True))


def read_losses(part: Mapping[str, Any], results: Path) -> list[LossRun]:
    """The runs of a table's `loss_rows`, verified and about the same images and targets.

    Args:
        part: the table of attacks, with `table`, `model`, `targets` and `rows`.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: a row has not been run.
        ValueError: a file is damaged, a trace is of another kind, or the rows differ in their images.
    """
    runs = [read_loss(row, attacks_of(part, results)) for row in loss_rows(part)]
    if not runs:
        raise ValueError(f"table {part['table']!r} has no row of attack gradient with stop_at_success false")
    for run in runs[1:]:
        if run.records["image_id"].tolist() != runs[0].records["image_id"].tolist():
            raise ValueError(
                f"{run.row['slug']} and {runs[0].row['slug']} of {part['table']} are about other images: run them again"
            )
    return runs


def read_loss(row: Mapping[str, Any], attacks: Path) -> LossRun:
    """The run of one row; see `read_losses`."""
    steps = row["parameters"].get("max_iterations")
    if steps is None:
        raise ValueError(f"row {row['slug']!r} names no max_iterations: say how many steps the losses have")
    result = read_row(Path(attacks) / row["slug"])
    worked_on = result.records["status"] != "already_there"
    records = result.records[worked_on].reset_index(drop=True)
    trace = read_trace(result.folder)
    curves, made = curves_of(trace, [str(name) for name in records["image_id"]], int(steps), result.folder)
    reached = curves["reached"] > 0
    first = np.where(reached.any(axis=1), reached.argmax(axis=1), np.nan)
    return LossRun(row, records, result.run, int((~worked_on).sum()), curves, first, made)


def curves_of(
    trace: pd.DataFrame, image_ids: list[str], steps: int, folder: Path
) -> tuple[dict[str, Curves], NDArray[np.int64]]:
    """What a trace notes of each image at each step, with the last values kept to the end of the budget.

    Args:
        trace: see `records.read_trace`.
        image_ids: the images, in the order wanted.
        steps: T, the budget.
        folder: where the trace comes from, for messages.

    Returns:
        Name to values (N, T + 1), and how many steps (N,) were made.

    Raises:
        ValueError: the trace is of another kind, lacks an image or a step, or is longer than the budget.
    """
    missing = [name for name in STEP_NAMES if name not in trace]
    if missing:
        raise ValueError(f"{folder}: its trace says nothing of {missing[0]}: run this row with `trace: steps`")
    groups = dict(tuple(trace.groupby("image_id", sort=False)))
    curves = {name: np.empty((len(image_ids), steps + 1)) for name in STEP_NAMES}
    made = np.empty(len(image_ids), dtype=np.int64)
    for position, image_id in enumerate(image_ids):
        lines = groups.get(image_id)
        if lines is None or lines["step"].tolist() != list(range(len(lines))) or len(lines) > steps + 1:
            raise ValueError(f"{folder}: its trace does not lead image {image_id} from step 0 to {steps}: run it again")
        made[position] = len(lines) - 1
        step = np.minimum(np.arange(steps + 1), made[position])
        for name in STEP_NAMES:
            curves[name][position] = lines[name].to_numpy()[step]
    return curves, made


def by_setting(runs: list[LossRun]) -> Iterator[tuple[str, dict[str, LossRun]]]:
    """Each setting there is, in the paper's order, with its runs by loss, in the paper's order."""
    for setting in SETTINGS:
        found = {run.loss: run for run in runs if run.setting == setting}
        if found:
            yield setting, {loss: found[loss] for loss in LOSSES if loss in found}
