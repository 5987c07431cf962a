"""The least max-norm perturbation under linear constraints.

Problem, for one image:

    minimise q  subject to  G r <= c,  -q <= r_j <= q,  -1 <= r_j <= 1

with G (n, m) and c (n). Without the box, which only says that q > 1 is no solution, its dual has n unknowns:

    maximise b'y  subject to  ||G'y||_1 <= 1,  y >= 0,   b = -c

Every y >= 0 gives a bound: q >= b'y / ||G'y||_1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog
from torch import Tensor

_Array = NDArray[np.float64]

MOST_ROUNDS = 400
# Where, between the best point so far (0) and the master problem's (1), a round puts its first cut.
_SHARE = 0.15
# What the largest demand may be missed by, relative: above the linear-programming solver's own tolerance.
_FEASIBLE = 1e-6


@dataclass(frozen=True)
class MaxNormSolution:
    """The least max-norm perturbation of one image.

    Attributes:
        perturbation: r (m,), float64; 0 where there is no solution.
        size: q, its largest absolute value.
        lower_bound: no solution is smaller; above 1, up to infinity, where there is none. From a point of the dual,
            so it holds whatever the solver did.
        gap: (size - lower_bound) / size; 0 where nothing has to move, infinity where there is no solution.
        infeasible: no perturbation in the box meets the constraints (or none was found, with `lower_bound` <= 1).
        rounds: linear programmes solved.
    """

    perturbation: Tensor
    size: float
    lower_bound: float
    gap: float
    infeasible: bool
    rounds: int


@dataclass(frozen=True)
class _Scaled:
    """The problem in units in which the largest demand of a row is 1, rows that cannot bind left out.

    Attributes:
        rows: (k, m), each of l1 norm 1.
        demand: b (k,), its largest entry 1.
        unit: what q is measured in; at most 1. A row needs q >= its demand, so q >= 1 in these units.
    """

    rows: _Array
    demand: _Array
    unit: float


def max_norm(
    rows: Tensor, limits: Tensor, *, solver: Literal["highs", "dual"] = "dual", gap: float = 1e-3
) -> MaxNormSolution:
    """Solves `min ||r||_inf s.t. G r <= c, ||r||_inf <= 1` for one image, in float64.

    Args:
        rows: G (n, m); zero, duplicated and dependent rows are allowed.
        limits: c (n,).
        solver: "highs" for the linear programme in r as it stands, exact, for m up to some thousands; "dual" for
            cutting planes on the dual, where a round costs two products with G.
        gap: the relative gap at which "dual" stops.

    Returns:
        The perturbation and its certificate. "dual" fills it from the sign patterns of its cuts, so that it meets
        the constraints to the solver's precision whatever the gap.

    Raises:
        ValueError: rows and limits do not belong together or are not finite, or an unknown solver.
    """
    if rows.ndim != 2 or limits.shape != rows.shape[:1]:
        raise ValueError(f"rows {tuple(rows.shape)} and limits {tuple(limits.shape)} are not (n, m) and (n,)")
    if solver not in ("highs", "dual"):
        raise ValueError(f"solver must be highs or dual, got {solver!r}")
    matrix, bounds = (part.detach().double().cpu().numpy() for part in (rows, limits))
    if not (np.isfinite(matrix).all() and np.isfinite(bounds).all()):
        raise ValueError("rows and limits must be finite")
    scaled = _scale(matrix, bounds)
    if scaled is None:
        return _nothing(matrix.shape[1])
    if len(scaled.rows) == 0:
        return MaxNormSolution(torch.zeros(matrix.shape[1], dtype=torch.float64), 0.0, 0.0, 0.0, False, 0)
    found, bound, rounds = _exact(scaled) if solver == "highs" else _cutting_planes(scaled, gap)
    return _certified(scaled, found, bound, rounds)


def _scale(rows: _Array, limits: _Array) -> _Scaled | None:
    """The problem in units of its own; no rows where r = 0 is the solution, None where a row has no solution."""
    norms = np.abs(rows).sum(axis=1)
    empty = norms == 0
    if (limits[empty] < 0).any():
        return None
    demand = -limits[~empty] / norms[~empty]
    unit = demand.max(initial=0.0)
    if unit > 1:
        return None
    if unit <= 0:
        return _Scaled(rows[:0], limits[:0], 1.0)
    # In the box a row's product is at least -1: smaller demands are met by all that is allowed.
    binding = demand > -1
    return _Scaled(rows[~empty][binding] / norms[~empty][binding, None], demand[binding] / unit, float(unit))


def _exact(scaled: _Scaled) -> tuple[_Array | None, float, int]:
    """The linear programme in (-r, q) by HiGHS: -r or None, a lower bound, 1."""
    count, width = scaled.rows.shape
    ones, column = sparse.identity(width, format="csr"), sparse.csr_matrix(np.ones((width, 1)))
    none = sparse.csr_matrix((count, 1))
    solved = linprog(
        np.append(np.zeros(width), 1.0),
        A_ub=sparse.bmat([[sparse.csr_matrix(-scaled.rows), none], [ones, -column], [-ones, -column]], format="csr"),
        b_ub=np.concatenate([-scaled.demand, np.zeros(2 * width)]),
        bounds=[(-1 / scaled.unit, 1 / scaled.unit)] * width + [(0, None)],
        method="highs",
    )
    if solved.status != 0:
        return None, np.inf if solved.status == 2 else 0.0, 1
    weights = np.maximum(-solved.ineqlin.marginals[:count], 0)
    return solved.x[:-1], _bound(scaled, weights, np.abs(scaled.rows.T @ weights).sum()), 1


def _bound(scaled: _Scaled, weights: _Array, norm: float) -> float:
    """The lower bound that a point y >= 0 of the dual gives, `norm` being ||G'y||_1."""
    value = float(scaled.demand @ weights)
    if value <= 0:
        return 0.0
    return value / norm if norm > 0 else np.inf


class _Cuts:
    """Outer approximation of ||G'y||_1 <= 1 by sign patterns s: (G s)'y <= 1."""

    def __init__(self, scaled: _Scaled) -> None:
        self.scaled = scaled
        self.patterns: list[NDArray[np.int8]] = []
        self.cuts: list[_Array] = []
        self.best = np.zeros(len(scaled.rows))
        self.bound = 0.0
        self.rounds = 0

    def add(self, weights: _Array) -> None:
        """Cuts at a point y >= 0, and raises the bound if the point is better than the best."""
        image = self.scaled.rows.T @ weights
        pattern = np.where(image < 0, -1, 1).astype(np.int8)
        self.patterns.append(pattern)
        self.cuts.append(self.scaled.rows @ pattern)
        norm = float(np.abs(image).sum())
        bound = _bound(self.scaled, weights, norm)
        if bound > self.bound:
            self.bound = bound
            self.best = weights / norm if norm > 0 else weights

    def master(self) -> tuple[_Array, _Array | None]:
        """The point y of the best value within the cuts, and the weights of the patterns.

        Values beyond twice the box end the search for more; then there are no weights.
        """
        self.rounds += 1
        demand = self.scaled.demand
        solved: Any = linprog(
            -demand,
            A_ub=np.vstack([*self.cuts, demand]),
            b_ub=np.append(np.ones(len(self.cuts)), 2 / self.scaled.unit),
            bounds=(0, None),
            method="highs",
        )
        if solved.status != 0:
            return self.best, None
        weights = np.maximum(-solved.ineqlin.marginals, 0)
        return np.maximum(solved.x, 0), None if weights[-1] > 0 else weights[:-1]

    def perturbation(self, weights: _Array) -> _Array:
        """`-r = sum_k w_k s_k`: -G r >= b and ||r||_inf <= sum_k w_k by the duality of the master problem."""
        total = np.zeros(self.scaled.rows.shape[1])
        for index in np.flatnonzero(weights):
            total += weights[index] * self.patterns[index]
        return total


def _cutting_planes(scaled: _Scaled, gap: float) -> tuple[_Array | None, float, int]:
    """-r or None, a lower bound and the rounds it took.

    Kelley's cutting planes; each round also cuts near the best point so far (in-out separation), which takes a
    third of the rounds.
    """
    cuts = _Cuts(scaled)
    for start in [*np.eye(len(scaled.rows)), np.maximum(scaled.demand, 0)]:
        cuts.add(start)
    weights = None
    for _ in range(MOST_ROUNDS):
        point, weights = cuts.master()
        if cuts.bound * scaled.unit > 1 or (weights is not None and weights.sum() * (1 - gap) <= cuts.bound):
            break
        before = cuts.bound
        cuts.add(_SHARE * point + (1 - _SHARE) * cuts.best)
        cuts.add(point)
        if weights is None and cuts.bound == before and (point == cuts.best).all():
            break
    return None if weights is None else cuts.perturbation(weights), cuts.bound, cuts.rounds


def _certified(scaled: _Scaled, found: _Array | None, bound: float, rounds: int) -> MaxNormSolution:
    """What was found, back in the units of the image; flagged where it is not what it should be."""
    lower = bound * scaled.unit
    if found is None or lower > 1 + _FEASIBLE:
        return _nothing(len(scaled.rows.T), lower, rounds)
    found = np.clip(found, -1 / scaled.unit, 1 / scaled.unit)
    if (scaled.rows @ found < scaled.demand - _FEASIBLE).any():
        return _nothing(len(scaled.rows.T), lower, rounds)
    size = float(np.abs(found).max()) * scaled.unit
    lower = min(lower, size)
    return MaxNormSolution(torch.from_numpy(-found * scaled.unit), size, lower, 1 - lower / size, False, rounds)


def _nothing(width: int, lower: float = np.inf, rounds: int = 0) -> MaxNormSolution:
    return MaxNormSolution(torch.zeros(width, dtype=torch.float64), 0.0, lower, np.inf, True, rounds)
