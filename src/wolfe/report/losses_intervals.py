"""Measured figures with their intervals, and what they say of a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr

from wolfe.report.summary import wilson_interval
from wolfe.seeding import numpy_generator

DRAWS = 4000
"""Draws of images with replacement; the ends of an interval are the percentiles 2.5 and 97.5 of what they give."""
FEWEST = 5
"""With fewer images nothing is concluded: all draws of them are too much alike."""
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


@dataclass(frozen=True)
class Measured:
    """A figure, its 95 % interval (NaN where nothing tells) and the number of images that it rests on."""

    value: float
    low: float
    high: float
    images: int

    def scaled(self, change: np.ufunc) -> Measured:
        """The same on another scale, by an increasing function."""
        value, low, high = (float(change(number)) for number in (self.value, self.low, self.high))
        return Measured(value, low, high, self.images)


def mean(values: NDArray[np.float64]) -> Measured:
    """The mean over images (N,), those left out where it is NaN, with a bootstrap interval over the images.

    For differences between two runs on the same images this is the paired bootstrap (B. Efron, Annals of Statistics
    7, 1979). The draws are the same for as many images, whatever is measured.
    """
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return Measured(math.nan, math.nan, math.nan, 0)
    low, high = np.quantile(drawn_means(known), (0.025, 0.975))
    return Measured(float(known.mean()), float(low), float(high), len(known))


def mean_share(values: NDArray[np.float64]) -> Measured:
    """The mean of shares in [0, 1] over images (N,); where all are 0 or all are 1, Wilson's interval has a length."""
    known = values[~np.isnan(values)]
    alike = len(known) > 0 and (bool((known == 0).all()) or bool((known == 1).all()))
    return share(known == 1) if alike else mean(values)


def drawn_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means (DRAWS, ...) of values (N, ...) over images drawn again with replacement."""
    images = len(values)
    counts = numpy_generator(0, "losses", "images drawn again").multinomial(images, np.full(images, 1 / images), DRAWS)
    means: NDArray[np.float64] = counts @ values / images
    return means


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> Measured:
    """The geometric mean over images (N,) of quotients, where both are above 0; interval as in `mean`."""
    known = (above > 0) & (below > 0)
    return mean(np.log(above[known] / below[known])).scaled(np.exp)


def share(chosen: NDArray[np.bool_]) -> Measured:
    """The share of images (N,) that are chosen, with Wilson's interval."""
    if len(chosen) == 0:
        return Measured(math.nan, math.nan, math.nan, 0)
    return Measured(float(chosen.mean()), *wilson_interval(int(chosen.sum()), len(chosen)), len(chosen))


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> Measured:
    """Spearman's rank correlation over images (N,) that have both values.

    The interval is that of D. G. Bonett and T. A. Wright, Psychometrika 65 (2000): Fisher's z with the variance
    (1 + r^2 / 2) / (N - 3).
    """
    known = ~(np.isnan(first) | np.isnan(second))
    images = int(known.sum())
    if images < FEWEST or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return Measured(math.nan, math.nan, math.nan, images)
    found = float(spearmanr(first[known], second[known]).statistic)
    middle = math.atanh(min(max(found, -1 + 1e-12), 1 - 1e-12))
    half = float(norm.ppf(0.975)) * math.sqrt((1 + found**2 / 2) / (images - 3))
    return Measured(found, math.tanh(middle - half), math.tanh(middle + half), images)


def verdict(measured: Measured, above: float, below: float) -> str:
    """Whether the figure lies between two bounds, as far as its interval can tell.

    Args:
        measured: the figure.
        above: it is to be above this, or minus infinity.
        below: it is to be below this, or infinity.

    Returns:
        `HOLDS` where the whole interval is inside, `FAILS` where all of it is outside, else `UNDECIDED`; so it is
        where every image gives the bound itself, as when nothing happens under either of two losses.
    """
    if measured.images < FEWEST or math.isnan(measured.low):
        return UNDECIDED
    if measured.low == measured.high and measured.low in (above, below):
        return UNDECIDED
    if above < measured.low and measured.high < below:
        return HOLDS
    return FAILS if measured.high <= above or measured.low >= below else UNDECIDED
