"""The nearest point of half-spaces and a box.

Problem, for every image of a batch:

    minimise 1/2 ||y - p||^2  subject to  A y <= b,  low <= y <= high

Given multipliers w >= 0 of the half-spaces the best point in the box is y(w) = clamp(p - A'w, low, high). The dual in w
is concave and piecewise quadratic: where the same values F stay off their bounds it is

    maximise  demand' w - 1/2 w' H w,   H = A_F A_F',   demand = A y(w) - b + H w

Its maximum for the present F, found exactly by `solve_dual`, is a Newton step; a few settle F. A step that overshoots
is halved, and a proximal term keeps it finite where the present F leaves no point at all. Of a problem's size m only
two products with A are left in a step: H follows the few values that enter or leave F.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from wolfe.linear.dual import solve_dual
from wolfe.linear.products import gram_matrix

TOLERANCE = 1e-7
_ROUNDS, _HALVINGS = 30, 12
# The proximal term, in units of the mean of H's diagonal: the usual one, and where there is no finite step without.
_PROXIMAL, _STRONG = 1e-10, 1e-3
# A step this many times the largest distance to a plane comes from a piece that holds nearly all values at bounds.
_FAR = 1e3
# H is worked out anew where more than this share of the values entered or left F.
_MANY = 0.25
# In units of the spacing of numbers: what the dual function's value may be wrong by.
_ROUNDING = 8


@dataclass(frozen=True)
class NearestPoint:
    """Nearest points of a batch.

    Attributes:
        point: y (B, m), inside the box; in the type of the half-spaces' normals.
        multipliers: w (B, k), at least 0, float64.
        residual: (B,), the largest violation of a half-space or of complementarity, in units of the distance to a
            plane, float64.
        converged: (B,) whether the residual is below the tolerance; False where half-spaces and box have no common
            point.
    """

    point: Tensor
    multipliers: Tensor
    residual: Tensor
    converged: Tensor


def nearest_point(
    point: Tensor,
    rows: Tensor,
    bounds: Tensor,
    low: Tensor,
    high: Tensor,
    tolerance: float | Tensor = TOLERANCE,
    *,
    gram: Tensor | None = None,
    start: Tensor | None = None,
) -> NearestPoint:
    """The nearest point of `{y : A y <= b, low <= y <= high}`, image by image, in one batch.

    A row of zeros with a bound of at least 0 stands for no half-space at all, with one below 0 for an empty one.
    Images do not influence each other. Products of size m are taken in the type of the rows, all else in float64: with
    rows in float32 a tolerance below some 1e-6 of the points' size is out of reach.

    Args:
        point: p (B, m), in the type of the rows.
        rows: A (B, k, m), float64 or float32.
        bounds: b (B, k), float64.
        low: (B, m), in the type of the rows.
        high: (B, m), in the type of the rows, at least `low`.
        tolerance: the residual that is small enough, a number or one an image (B,).
        gram: A A' (B, k, k), float64, if it is known.
        start: multipliers (B, k) to begin with, of a problem nearby; zeros for none.

    Returns:
        The points, their multipliers and how well they fit. Where there is no common point, the point is the last
        that was met.
    """
    gram = gram_matrix(rows) if gram is None else gram
    tolerance = torch.as_tensor(tolerance, dtype=torch.float64, device=rows.device).expand(len(rows))
    start = torch.zeros_like(bounds) if start is None else start
    dual = _Dual(point, rows, bounds, low, high, gram)
    return _solve(dual, dual.at(start), tolerance, _ROUNDS)


def _solve(dual: _Dual, at: _At, tolerance: Tensor, rounds: int) -> NearestPoint:
    """Newton steps from a place, each for the images that are not there yet."""
    fresh = at.weights.amax(dim=1) <= 0
    done = ((dual.residual(at) <= tolerance) & ~fresh) | dual.impossible
    for step in range(rounds):
        # At first no value is held: a pixel of 0 or 1 would be, and may well have to move away from there.
        aim = dual.newton(at, fresh if step == 0 else torch.zeros_like(fresh))
        at = dual.climbed(at, torch.where(done[:, None], at.weights, aim))
        done = (dual.residual(at) <= tolerance) | dual.no_point(at)
        pending = (~done).nonzero()[:, 0]
        if len(pending) == 0:
            break
        if 2 * len(pending) <= len(done):
            rest = _solve(dual.select(pending), at.select(pending), tolerance[pending], rounds - step - 1)
            return _replaced(dual.answer(at, tolerance), pending, rest)
    return dual.answer(at, tolerance)


def _replaced(whole: NearestPoint, index: Tensor, part: NearestPoint) -> NearestPoint:
    """The answers with those of some images replaced."""
    names = [part.name for part in fields(NearestPoint)]
    return NearestPoint(*(getattr(whole, name).index_copy(0, index, getattr(part, name)) for name in names))


@dataclass(frozen=True)
class _At:
    """The dual at multipliers.

    Attributes:
        weights: w (B, k).
        best: y(w) (B, m).
        free: (B, m) which of its values are off their bounds.
        slack: A y - b (B, k).
        value: of the dual function (B,).
        noise: what the value may be wrong by (B,).
    """

    weights: Tensor
    best: Tensor
    free: Tensor
    slack: Tensor
    value: Tensor
    noise: Tensor

    def select(self, index: Tensor) -> _At:
        """Some of the images."""
        return _At(*(getattr(self, part.name)[index] for part in fields(self)))


class _Dual:
    """The dual of a batch; arguments as `nearest_point` has them."""

    def __init__(self, point: Tensor, rows: Tensor, bounds: Tensor, low: Tensor, high: Tensor, gram: Tensor) -> None:
        self.point, self.rows, self.low, self.high = point, rows, low, high
        self.norms = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
        empty = self.norms == 0
        # The dual function never exceeds what the farthest point of the box costs, if there is a common point.
        farthest = torch.maximum((point - low).abs(), (high - point).abs())
        self.most = 0.5 * (1 + 1e-3) * torch.linalg.vector_norm(farthest, dim=1, dtype=torch.float64).square()
        self.impossible = (empty & (bounds < 0)).any(dim=1)
        self.bounds = torch.where(empty, 1.0, bounds)
        # H and the values F that it is for; at first all of them.
        self._gram, self._free = gram, torch.ones_like(point, dtype=torch.bool)

    def select(self, index: Tensor) -> _Dual:
        """The dual of some of the images."""
        parts = (self.point, self.rows, self.bounds, self.low, self.high, self._gram)
        chosen = _Dual(*(part[index] for part in parts))
        chosen.norms, chosen.impossible, chosen.most = self.norms[index], self.impossible[index], self.most[index]
        chosen.bounds, chosen._free = self.bounds[index], self._free[index]
        return chosen

    def at(self, weights: Tensor) -> _At:
        """The dual at multipliers (B, k): two products with A."""
        moved = self.point - (weights.to(self.rows)[:, None] @ self.rows)[:, 0]
        best = moved.clamp(self.low, self.high)
        slack = (self.rows @ best[:, :, None])[:, :, 0].double() - self.bounds
        far = (best - self.point).norm(dim=1).double().square()
        size = far + (weights * self.norms).sum(dim=1) * best.norm(dim=1)
        noise = _ROUNDING * torch.finfo(self.rows.dtype).eps * size
        value = 0.5 * far + (weights * slack).sum(dim=1)
        return _At(weights, best, (moved > self.low) & (moved < self.high), slack, value, noise)

    def residual(self, at: _At) -> Tensor:
        """The largest violation (B,) of a half-space or of complementarity, as a distance."""
        left = at.slack / torch.where(self.norms > 0, self.norms, torch.inf)
        worst = torch.where(at.weights > 0, left.abs(), left.clamp(min=0)).amax(dim=1)
        return torch.where(self.impossible, torch.inf, worst)

    def no_point(self, at: _At) -> Tensor:
        """Whether (b,) it is certain that half-spaces and box have no common point."""
        return self.impossible | (at.value > self.most + at.noise)

    def answer(self, at: _At, tolerance: Tensor) -> NearestPoint:
        """The point that belongs to the multipliers, and how well it fits."""
        residual = self.residual(at)
        return NearestPoint(at.best, at.weights, residual, residual <= tolerance)

    def newton(self, at: _At, fresh: Tensor) -> Tensor:
        """The maximum (B, k) of the piece around a place; of fresh images (B,), of the piece that holds no value."""
        gram = self._gram_of(at.free | fresh[:, None])
        demand = at.slack + (gram @ at.weights[:, :, None])[:, :, 0]
        outside = torch.where(fresh[:, None], self.point - at.best, 0)
        if bool(outside.any()):
            demand = demand + (self.rows @ outside[:, :, None])[:, :, 0].double()
        size = self.norms.square().mean(dim=1).clamp(min=1e-300)
        identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        found = solve_dual(gram + (_PROXIMAL * size)[:, None, None] * identity, demand)
        usual = demand.abs().amax(dim=1) / size.sqrt()
        far = (found.multipliers * self.norms).amax(dim=1) > _FAR * usual
        poor = (found.infeasible | ~found.converged | far).nonzero()[:, 0]
        answer = found.multipliers
        if len(poor):
            weight = (_STRONG * size[poor])[:, None]
            near = solve_dual(gram[poor] + weight[:, :, None] * identity, demand[poor] + weight * at.weights[poor])
            answer = answer.index_copy(0, poor, near.multipliers)
        return answer

    def climbed(self, at: _At, aim: Tensor) -> _At:
        """The place on the way towards a Newton step (B, k) where the dual function rises; halved until it does."""
        least = at.value - at.noise
        tried, share = self.at(aim), torch.ones_like(at.value)
        for _ in range(_HALVINGS):
            falls = tried.value < least
            if not bool(falls.any()):
                break
            share = torch.where(falls, share / 2, share)
            tried = self.at(at.weights + share[:, None] * (aim - at.weights))
        return tried

    def _gram_of(self, free: Tensor) -> Tensor:
        """H (B, k, k) for the values F (B, m), brought up to date from the F before."""
        changed = free != self._free
        most = int(changed.sum(dim=1).max()) if len(changed) else 0
        if most > _MANY * free.shape[1]:
            self._gram = gram_matrix(self.rows * free[:, None])
        elif most:
            columns, signs = self._columns(changed, free, most)
            self._gram = self._gram + (columns * signs[:, None]) @ columns.mT
        self._free = free
        return self._gram

    def _columns(self, changed: Tensor, free: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The columns (B, k, most) of A that changed, zeros fill up, and (B, most) whether they enter F (1) or leave.

        Float64.
        """
        image, value = changed.nonzero(as_tuple=True)
        place = changed.cumsum(dim=1)[image, value] - 1
        columns = self.rows.new_zeros(len(self.rows), most, self.rows.shape[1], dtype=torch.float64)
        columns[image, place] = self.rows[image, :, value].double()
        signs = columns.new_zeros(columns.shape[:2])
        signs[image, place] = 2 * free[image, value].double() - 1
        return columns.mT, signs
