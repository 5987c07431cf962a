"""How well a measure ranks examples by a yes or no: areas under ROC curves with intervals over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from wolfe.seeding import numpy_generator

REPLICATES = 200
_PER_PASS = 1 << 22


@dataclass(frozen=True)
class Ranking:
    """How well a measure ranks.

    Attributes:
        auc: the share of pairs, one that transfers and one that does not, in which the measure is higher for the one
            that does; equal ones count half. NaN where there is no pair.
        replicates: the same over images drawn with replacement (R,); NaN where a draw has no pair.
        tied: the share of pairs in which the measure is equal.
        correlation: Spearman's rank correlation; NaN where the measure is constant.
        pairs: how many there are.
    """

    auc: float
    replicates: NDArray[np.float64]
    tied: float
    correlation: float
    pairs: int


def drawn(images: int, *names: str) -> NDArray[np.float64]:
    """How often each image is in each of `REPLICATES` draws with replacement (R, N); the same for the same names."""
    generator = numpy_generator(0, "images drawn again", *names)
    return generator.multinomial(images, np.full(images, 1 / images), size=REPLICATES).astype(np.float64)


def over_all_steps(
    values: NDArray[np.float64], yes: NDArray[np.bool_], valid: NDArray[np.bool_], draws: NDArray[np.float64]
) -> Ranking:
    """Ranks examples of all steps together; every image is there once for each step.

    Args:
        values: the measure (N, S).
        yes: whether they transfer (N, S).
        valid: which of them count (N, S).
        draws: how often each image is in each draw (R, N).
    """
    image = np.nonzero(valid)[0]
    counts = _Counts(len(draws))
    counts.add(values[valid], yes[valid], image, draws)
    return counts.ranking(_correlation(values[valid], yes[valid]))


def within_steps(
    values: NDArray[np.float64], yes: NDArray[np.bool_], valid: NDArray[np.bool_], draws: NDArray[np.float64]
) -> Ranking:
    """Ranks the examples of each step by themselves; arguments as of `over_all_steps`.

    The pairs of all steps are pooled. The correlation is the mean over the steps that have one, weighted by pairs.
    """
    counts, weighted, weights = _Counts(len(draws)), 0.0, 0.0
    for step in range(values.shape[1]):
        chosen = valid[:, step]
        at_step, said = values[chosen, step], yes[chosen, step]
        pairs = float(said.sum() * (~said).sum())
        if pairs == 0:
            continue
        counts.add(at_step, said, np.nonzero(chosen)[0], draws)
        correlation = _correlation(at_step, said)
        if not np.isnan(correlation):
            weighted, weights = weighted + pairs * correlation, weights + pairs
    return counts.ranking(weighted / weights if weights else np.nan)


def interval(replicates: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of what was drawn; NaN where half of the draws or more have nothing to say."""
    if np.isnan(replicates).mean() >= 0.5:
        return np.nan, np.nan
    low, high = np.nanquantile(replicates, [0.025, 0.975])
    return float(low), float(high)


class _Counts:
    """Sums up concordant, tied and all pairs: of the examples as they are, and of each draw.

    Args:
        draws: how many there are.
    """

    def __init__(self, draws: int) -> None:
        self._sums = np.zeros((3, 1 + draws))

    def add(
        self, values: NDArray[np.float64], yes: NDArray[np.bool_], image: NDArray[np.intp], draws: NDArray[np.float64]
    ) -> None:
        """Adds the pairs among some examples (n,), each of an image (n,)."""
        order = np.argsort(values, kind="stable")
        values, yes, image = values[order], yes[order], image[order]
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.empty(0, int)
        if len(starts) == 0:
            return
        weights = np.vstack([np.ones(draws.shape[1]), draws])
        rows = max(1, _PER_PASS // len(values))
        for begin in range(0, len(weights), rows):
            part = slice(begin, begin + rows)
            self._sums[:, part] += _pairs(weights[part][:, image], yes, starts)

    def ranking(self, correlation: float) -> Ranking:
        """What follows from the sums."""
        concordant, tied, pairs = self._sums
        with np.errstate(invalid="ignore"):
            share = (concordant + tied / 2) / pairs
            equal = float(tied[0] / pairs[0])
        return Ranking(float(share[0]), share[1:], equal, correlation, int(pairs[0]))


def _pairs(weights: NDArray[np.float64], yes: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Concordant, tied and all pairs (3, R) of weighted examples (R, n), sorted by the measure, equal ones together.

    Args:
        weights: how often each is there.
        yes: what is to be ranked higher (n,).
        starts: where each group of equal ones begins (g,).
    """
    higher = np.add.reduceat(weights * yes, starts, axis=1)
    lower = np.add.reduceat(weights * ~yes, starts, axis=1)
    below = np.cumsum(lower, axis=1) - lower
    return np.stack(
        [(higher * below).sum(axis=1), (higher * lower).sum(axis=1), higher.sum(axis=1) * lower.sum(axis=1)]
    )


def _correlation(values: NDArray[np.float64], yes: NDArray[np.bool_]) -> float:
    """Spearman's rank correlation; NaN where either is constant."""
    if len(values) < 2 or (values == values[0]).all() or (yes == yes[0]).all():
        return float("nan")
    # Of ranks and a yes or no: the ranks of the latter are any two numbers.
    return float(np.corrcoef(rankdata(values), yes)[0, 1])
