"""Interleaved measurements: what is compared takes turns within one process, so that a busy machine hits all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (linear between neighbours); NaN for no values, infinite ones count as the largest."""
    ordered = sorted(values)
    if not ordered:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(statistics.median(ordered), _quantile(ordered, 0.25), _quantile(ordered, 0.75))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below, rest = int(place), place - int(place)
    if rest == 0 or ordered[below] == ordered[below + 1]:
        return ordered[below]
    return ordered[below] + rest * (ordered[below + 1] - ordered[below])


def ratios(reference: Sequence[float], other: Sequence[float]) -> Spread:
    """The spread of reference / other, round by round: how many times `other` is cheaper.

    Raises:
        ValueError: they do not have the same rounds.
    """
    return spread([first / second for first, second in zip(reference, other, strict=True)])


def interleaved(
    contestants: Mapping[str, Callable[[], float]], rounds: int, *, warm: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Lets contestants take turns; each round begins with another one.

    Args:
        contestants: by name, each does its work once and returns its measure.
        rounds: how often each works.
        warm: who works once before, unmeasured; None for all.

    Returns:
        The measures of each, by round.
    """
    names = list(contestants)
    for name in names if warm is None else warm:
        contestants[name]()
    measures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            measures[name].append(contestants[name]())
    return measures


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """The wall time of some work, with all it started on the device."""
    _wait(device)
    begin = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
