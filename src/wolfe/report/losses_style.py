"""How the losses look in all figures: colours that colour-blind readers tell apart, and dashes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from wolfe.report.losses_runs import LOSSES, Curves

# The colours of M. Okabe and K. Ito, Color Universal Design (2008).
COLOURS = dict(zip(LOSSES, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=True))
DASHES: dict[str, Any] = dict(zip(LOSSES, ("-", (0, (4, 1.4)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2))), strict=True))
SPACES = ("#dfe6ee", "#f6f1dc", "#dfeee5")
"""Backgrounds of the sub-spaces S1, S2 and S3."""
SMALL = 6.5
"""Font size of ticks and legends."""


def quartiles(values: Curves) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lower and the upper quartile (T + 1,) of curves (N, T + 1)."""
    low, high = np.quantile(values, (0.25, 0.75), axis=0)
    return low, high


def show_legend(axes: Axes, loc: str, **more: Any) -> None:
    """A legend in small print."""
    look = {"fontsize": SMALL, "borderpad": 0.3, "labelspacing": 0.25, "handlelength": 2.4, "framealpha": 0.85}
    axes.legend(**{"loc": loc, **look, **more})
