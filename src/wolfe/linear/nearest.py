"""The nearest point of half-spaces and a box.

Problem, for every image of a batch:

    minimise 1/2 ||y - p||^2  subject to  A y <= b,  low <= y <= high

Given multipliers w >= 0 of the half-spaces the best point in the box is y(w) = clamp(p - A'w, low, high). The dual in w
is concave and piecewise quadratic: where the same values stay off their bounds it is

    maximise  demand' w - 1/2 w' H w,   H = A_F A_F',   demand = A (p on F, the bounds elsewhere) - b

with F the values off their bounds. Its maximum for the present F, found exactly by `solve_dual`, is a Newton step; a
few settle F. A step that overshoots is halved, and a proximal term keeps it finite where the present F leaves no point
at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wolfe.linear.dual import solve_dual

TOLERANCE = 1e-7
_ROUNDS, _HALVINGS = 30, 12
# The proximal term, in units of the mean of H's diagonal: the usual one, and where there is no finite step without.
_PROXIMAL, _STRONG = 1e-10, 1e-3
# A step this many times the largest distance to a plane comes from a piece that holds nearly all values at bounds.
_FAR = 1e3


@dataclass(frozen=True)
class NearestPoint:
    """Nearest points of a batch, all float64.

    Attributes:
        point: y (B, m), inside the box.
        multipliers: w (B, k), at least 0.
        residual: (B,), the largest violation of a half-space or of complementarity, in units of the distance to a
            plane.
        converged: (B,) whether the residual is below the tolerance; False where half-spaces and box have no common
            point.
    """

    point: Tensor
    multipliers: Tensor
    residual: Tensor
    converged: Tensor


def nearest_point(
    point: Tensor, rows: Tensor, bounds: Tensor, low: Tensor, high: Tensor, tolerance: float | Tensor = TOLERANCE
) -> NearestPoint:
    """The nearest point of `{y : A y <= b, low <= y <= high}`, image by image, in one batch.

    A row of zeros with a bound of at least 0 stands for no half-space at all, with one below 0 for an empty one.
    Images do not influence each other.

    Args:
        point: p (B, m), float64.
        rows: A (B, k, m), float64.
        bounds: b (B, k), float64.
        low: (B, m), float64.
        high: (B, m), float64, at least `low`.
        tolerance: the residual that is small enough, a number or one an image (B,).

    Returns:
        The points, their multipliers and how well they fit. Where there is no common point, the point is the last
        that was met.
    """
    dual = _Dual(point, rows, bounds, low, high)
    weights = torch.zeros_like(bounds)
    free: Tensor | None = None
    done = torch.zeros_like(point[:, 0], dtype=torch.bool)
    for _ in range(_ROUNDS):
        if free is not None:
            done = dual.residual(weights) <= tolerance
        if bool(done.all()):
            break
        # At first no value is held: a pixel of 0 or 1 would be, and may well have to move away from there.
        free = torch.ones_like(point, dtype=torch.bool) if free is None else dual.off_bounds(weights)
        weights = torch.where(done[:, None], weights, dual.climbed(weights, dual.newton(weights, free)))
    residual = dual.residual(weights)
    return NearestPoint(dual.best(weights), weights, residual, residual <= tolerance)


class _Dual:
    """The dual of a batch; arguments as `nearest_point` has them."""

    def __init__(self, point: Tensor, rows: Tensor, bounds: Tensor, low: Tensor, high: Tensor) -> None:
        self.point, self.rows, self.low, self.high = point, rows, low, high
        self.norms = rows.square().sum(dim=2).sqrt()
        empty = self.norms == 0
        self.impossible = (empty & (bounds < 0)).any(dim=1)
        self.bounds = torch.where(empty, 1.0, bounds)

    def moved(self, weights: Tensor) -> Tensor:
        """The best point (B, m) without the box."""
        return self.point - (weights[:, None] @ self.rows)[:, 0]

    def best(self, weights: Tensor) -> Tensor:
        """The best point (B, m) in the box."""
        return self.moved(weights).clamp(self.low, self.high)

    def off_bounds(self, weights: Tensor) -> Tensor:
        """Which values (B, m) of the best point are free to move."""
        moved = self.moved(weights)
        return (moved > self.low) & (moved < self.high)

    def slack(self, points: Tensor) -> Tensor:
        """`A y - b` (B, k)."""
        return (self.rows @ points[:, :, None])[:, :, 0] - self.bounds

    def value(self, weights: Tensor) -> Tensor:
        """The dual function (B,)."""
        best = self.best(weights)
        return 0.5 * (best - self.point).square().sum(dim=1) + (weights * self.slack(best)).sum(dim=1)

    def residual(self, weights: Tensor) -> Tensor:
        """The largest violation (B,) of a half-space or of complementarity, as a distance."""
        left = self.slack(self.best(weights)) / torch.where(self.norms > 0, self.norms, torch.inf)
        worst = torch.where(weights > 0, left.abs(), left.clamp(min=0)).amax(dim=1)
        return torch.where(self.impossible, torch.inf, worst)

    def newton(self, weights: Tensor, free: Tensor) -> Tensor:
        """The maximum (B, k) of the piece where the given values are free."""
        held = torch.where(free, self.point, self.best(weights))
        gram, demand = (self.rows * free[:, None]) @ self.rows.mT, self.slack(held)
        size = self.norms.square().mean(dim=1).clamp(min=1e-300)
        identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        found = solve_dual(gram + (_PROXIMAL * size)[:, None, None] * identity, demand)
        usual = demand.abs().amax(dim=1) / size.sqrt()
        far = (found.multipliers * self.norms).amax(dim=1) > _FAR * usual
        poor = (found.infeasible | ~found.converged | far).nonzero()[:, 0]
        answer = found.multipliers
        if len(poor):
            weight = (_STRONG * size[poor])[:, None]
            near = solve_dual(gram[poor] + weight[:, :, None] * identity, demand[poor] + weight * weights[poor])
            answer = answer.index_copy(0, poor, near.multipliers)
        return answer

    def climbed(self, weights: Tensor, aim: Tensor) -> Tensor:
        """The way (B, k) towards a Newton step on which the dual function rises; halved until it does."""
        before = self.value(weights)
        least = before - 1e-12 * before.abs()
        share = torch.ones(len(weights), 1, dtype=weights.dtype, device=weights.device)
        for _ in range(_HALVINGS):
            falls = self.value(weights + share * (aim - weights)) < least
            if not bool(falls.any()):
                break
            share = torch.where(falls[:, None], share / 2, share)
        return weights + share * (aim - weights)
