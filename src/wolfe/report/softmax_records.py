"""What the experiment on softmax has measured, read back, cleaned and aggregated as in the paper's Appendix B."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wolfe.reading.tables import read_table
from wolfe.report.records import verified_run

RECORDS, RUN, PICTURES = "records.parquet", "run.json", "pictures.safetensors"
KINDS = {"over_optimised": "Over-optimised", "multi_class": "Two classes"}
"""The kinds of examples, and what they are called."""
MEASURES = {
    "softmax": "softmax",
    "activation": "highest logit",
    "margin": "logit margin",
    "distance": "distance past the boundary",
    "step": "step",
    "l2": "L2",
}
"""What might tell how well an example transfers."""
_NEEDED = (
    *("kind", "source", "image_id", "true_label", "target", "second", "step", "moved", "highest_class"),
    *("activation", "activation_2", "activation_3", "softmax", "log_odds", "margin", "distance", "l2", "linf"),
)
# Of the normal distribution: 95 % lie within so many standard errors.
_NORMAL = 1.96


@dataclass(frozen=True)
class Examples:
    """Examples of one kind from one model, and what another one says of them; N images and S + 1 steps, from 0.

    Attributes:
        kind, source, other: which these are; `source` was attacked.
        image_ids: the images' names (N,).
        measures: name to values (N, S + 1): `MEASURES` and "log_odds".
        adversarial: whether the attacked model decides for a class that was asked for.
        transferred: whether the other model does.
        changed: whether the other model decides for any wrong class.
        transferred_float: whether the last images transfer before they are rounded (N,).
    """

    kind: str
    source: str
    other: str
    image_ids: list[str]
    measures: dict[str, NDArray[np.float64]]
    adversarial: NDArray[np.bool_]
    transferred: NDArray[np.bool_]
    changed: NDArray[np.bool_]
    transferred_float: NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """A measure against the share that transfers, K different shares, rising.

    Attributes:
        share: percent of the kept examples that transfer (K,).
        mean: of the measure over the kept examples (K,).
        half: half of its 95 % interval (K,); NaN for a single example.
    """

    share: NDArray[np.float64]
    mean: NDArray[np.float64]
    half: NDArray[np.float64]


def read_softmax(results: Path, name: str) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Reads and verifies the records and the manifest of an experiment.

    Args:
        results: `results/<study>`.
        name: the experiment's.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or something else; the message names it.
    """
    folder = Path(results) / "experiments" / name
    run = verified_run(folder, (RECORDS,), "run `wolfe experiment`")
    records = read_table(folder / RECORDS)
    missing = [column for column in _NEEDED if column not in records]
    if missing or records.empty:
        raise ValueError(f"{folder / RECORDS} lacks {', '.join(missing) or 'all lines'}: run this experiment again")
    return records, run


def pairs_of(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All ordered pairs of an experiment's models: who is attacked, who is asked."""
    models = list(spec["models"])
    return [(source, other) for source in models for other in models if other != source]


def examples_of(records: pd.DataFrame, kind: str, source: str, other: str) -> Examples:
    """One kind of examples of one ordered pair of models.

    Raises:
        ValueError: the records do not hold the same steps of every such example, or none.
    """
    part = records[(records["kind"] == kind) & (records["source"] == source)]
    steps = part["step"].nunique()
    asked = f"prediction_{other}"
    whole = len(part) == steps * part["image_id"].nunique() and {asked, f"float_{asked}"} <= set(part)
    if part.empty or not whole:
        raise ValueError(f"the records of the experiment lack {kind} examples of {source} for {other}: run it again")

    def grid(column: str) -> NDArray[Any]:
        return part[column].to_numpy().reshape(-1, steps)

    decided, target, second = grid(asked), grid("target"), grid("second")
    own, ends = grid("highest_class"), grid(f"float_prediction_{other}")[:, -1]
    return Examples(
        kind=kind,
        source=source,
        other=other,
        image_ids=[str(name) for name in grid("image_id")[:, 0]],
        measures={name: grid(name).astype(np.float64) for name in (*MEASURES, "log_odds")},
        adversarial=(own == target) | (own == second),
        transferred=(decided == target) | (decided == second),
        changed=decided != grid("true_label"),
        transferred_float=(ends == target[:, -1]) | (ends == second[:, -1]),
    )


def kept(transferred: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which examples (N,) stay: those (N, S) that transfer after the last step (the paper's data cleaning)."""
    return transferred[:, -1]


def aggregated(transferred: NDArray[np.bool_], values: NDArray[np.float64]) -> Curve:
    """A measure against transfer: for each step the share that transfers, and the mean of the measure.

    Steps are sorted by the share; of those with the same one the means, and the intervals, are averaged. An interval
    is 1.96 standard errors to each side.

    Args:
        transferred: whether each kept example transfers at each step (N, S).
        values: the measure (N, S).

    Returns:
        The curve; an empty one without examples.
    """
    if len(values) == 0:
        return Curve(np.empty(0), np.empty(0), np.empty(0))
    shares, place = np.unique(transferred.sum(axis=0), return_inverse=True)
    count = len(values)
    deviation = values.std(axis=0, ddof=1) if count > 1 else np.full(values.shape[1], np.nan)
    times = np.bincount(place)

    def averaged(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(place, weights=numbers) / times

    return Curve(100 * shares / count, averaged(values.mean(axis=0)), averaged(_NORMAL * deviation / np.sqrt(count)))


def first_step(reached: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The first step (N,) at which something holds (N, S); NaN where it never does."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1), np.nan)
