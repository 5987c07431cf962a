"""The least-norm perturbation into a linearised region by the few rows of the Jacobian that matter.

The problem is that of :mod:`wolfe.linear.least_norm`:

    minimise ||delta||  subject to  R (v + J delta) <= -margin

Of its k constraints few are active at the solution. A working set W of them is enough to find it:

1. one vector-Jacobian product for every new member of W gives its row of R J;
2. the dual over W gives delta;
3. one Jacobian-vector product J delta gives the values of all constraints;
4. the most violated ones outside W join; if there are none, delta is the solution of the whole.

The norm of delta grows with every round, so no working set is seen twice, and W without a solution means that the
whole has none. What is kept of an image are the rows of W and the (k) values of its constraints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from wolfe.linear.dual import TOLERANCE, solve_dual
from wolfe.linear.finite import all_finite
from wolfe.linear.jacobian import every_row
from wolfe.linear.least_norm import LeastNormSolution, Region, least_norm, relative_violation
from wolfe.linear.products import gram_matrix, pull_back
from wolfe.linear.shrinking import Products, ShrinkingProducts

# Constraints that join W in a round: more of them cost rows that turn out idle, fewer cost rounds. In a problem of 225
# classes 4, 8 and 16 took 12, 20 and 27 rows and 2.9, 2.5 and 2.3 rounds. If as few as 10 are violated all begin.
_TOGETHER, _FEW = 4, 10
# In units of the spacing of numbers: by less than this a constraint outside W cannot be seen to be violated.
_ROUNDING = 4


class SparseRegion(Region, Protocol):
    """A region that gives single rows, and the rows of some images alone."""

    def rows(self, index: Tensor) -> Tensor:
        """The rows (B, j, n) at positions (B, j) of 0 to k - 1."""

    def select(self, index: Tensor) -> SparseRegion:
        """The region of some images (b,)."""


@dataclass(frozen=True)
class LazySolution:
    """Least-norm perturbations of a batch and what they cost.

    Attributes:
        solution: as from `least_norm`, over all constraints.
        working: (B, w) the constraints with a multiplier, by position; -1 fills up. The `start` of a problem nearby.
        finite: (B,) whether all values and rows that were seen are finite; there is no solution where not.
        vjps, jvps, forwards: (B,) int64, products and further forward passes that an image needed.
        forward_mode: whether the network has Jacobian-vector products; without them all rows were worked out.
    """

    solution: LeastNormSolution
    working: Tensor
    finite: Tensor
    vjps: Tensor
    jvps: Tensor
    forwards: Tensor
    forward_mode: bool


def lazy_least_norm(
    local: Products,
    values: Tensor,
    region: SparseRegion,
    margin: float | Tensor = 0.0,
    *,
    start: Tensor | None = None,
    again: Callable[[Tensor], Products] | None = None,
) -> LazySolution:
    """Solves `min ||delta|| s.t. R (v + J delta) <= -margin` for every image without forming J.

    Exact like `least_norm`. Its certificate covers all constraints, those of the working set in double precision and
    the others up to the rounding of one Jacobian-vector product. Nothing of size (B, k, n) is built, unless a layer of
    the network has no derivative that such a product could be made of: then all rows are worked out.

    Args:
        local: products with J, a :class:`wolfe.linear.Linearisation`.
        values: v (B, n).
        region: gives R, row by row.
        margin: how far inside to end, in units of the values; a number, or a tensor that broadcasts to (B, k).
        start: (B, s) the first working set by positions in 0 to k - 1, filled up with -1, as `working` of a problem
            nearby. Images that have none begin with their most violated constraints.
        again: the products of some images alone, by their positions (b,), for one more forward pass each; used
            where that costs less than carrying finished images along.

    Returns:
        The perturbations with their certificate, the working sets and the costs.
    """
    search = _Search(local, values, region, margin, again)
    wanted = search.first(start)
    while len(search.values):
        search.fetch(wanted)
        wanted = search.solve()
    return search.result()


class _Search:
    """The images in work and their working sets; the solutions of those that have left.

    Attributes:
        products: with the Jacobians of the images in work (b).
        values, region, margin, demand: theirs, (b, n) and (b, k).
        index, rows: their working sets (b, w) and (b, w, *image), where -1 and zeros fill up.
    """

    def __init__(
        self,
        local: Products,
        values: Tensor,
        region: SparseRegion,
        margin: float | Tensor,
        again: Callable[[Tensor], Products] | None,
    ) -> None:
        self.products, self.region = ShrinkingProducts(local, len(values), values.device, again), region
        self.values = values.double()
        violations = region.violations(self.values)
        self.margin = torch.as_tensor(margin, dtype=torch.float64, device=values.device).expand_as(violations)
        self.demand = violations + self.margin
        self.index = torch.zeros(len(values), 0, dtype=torch.long, device=values.device)
        self.rows = local.rows(values.new_zeros(len(values), 0, values.shape[1]))
        delta = self.rows.new_zeros(len(values), *self.rows.shape[2:])
        zeros = violations.new_zeros(len(values))
        self._found = LeastNormSolution(delta, torch.zeros_like(violations), zeros, zeros.bool(), ~zeros.bool())
        self._finite = ~zeros.bool()
        self._forward_mode = True

    def first(self, start: Tensor | None) -> Tensor:
        """The first working sets (b, j); images with nothing to do leave."""
        finite = self.demand.isfinite().all(dim=1)
        self._spoil(~finite)
        violated = (self.demand > 0).sum(dim=1)
        # All violated constraints if they are few, the foremost if they are many: most of those are never active.
        wanted = foremost(self.demand, torch.where(violated <= _FEW, violated, _TOGETHER))
        if start is not None and start.shape[1]:
            known = (start >= 0).any(dim=1, keepdim=True)
            wanted = torch.cat([start, wanted.masked_fill(known, -1)], dim=1)
        going = finite & (violated > 0)
        self._go_on(going)
        return _packed(wanted[going])

    def fetch(self, wanted: Tensor) -> None:
        """Takes constraints (b, j) into the working sets; images whose rows are not finite leave."""
        member = wanted >= 0
        weights = self.region.rows(wanted.clamp(min=0)) * member[:, :, None]
        fresh = self.products.rows(weights, member.sum(dim=1))
        self.index = torch.cat([self.index, wanted], dim=1)
        self.rows = torch.cat([self.rows, fresh], dim=1) if self.rows.shape[1] else fresh
        finite = all_finite(fresh)
        self._spoil(~finite)
        self._go_on(finite)

    def solve(self) -> Tensor:
        """Solves over the working sets; settled images leave, the others get constraints (b, j) that shall join."""
        gram = gram_matrix(self.rows)
        demand = torch.where(self.index >= 0, self.demand.gather(1, self.index.clamp(min=0)), 0.0)
        dual = solve_dual(gram, demand)
        delta, change = pull_back(self.rows, -dual.multipliers)
        pushed: Tensor | None = torch.zeros_like(self.values)
        if not bool(dual.infeasible.all()):
            pushed = self.products.push(delta, ~dual.infeasible)
        if pushed is None:
            return self._solve_by_all_rows()
        pushed = pushed.double()
        left = self._outside(pushed, delta.dtype)
        count = (left > 0).sum(dim=1)
        finite = pushed.isfinite().all(dim=1)
        done = finite & (dual.infeasible | (count == 0))
        multipliers = torch.zeros_like(left).scatter_add(1, self.index.clamp(min=0), dual.multipliers)
        residual = torch.maximum(dual.residual, relative_violation(demand + change, demand, gram))
        converged = dual.converged & (residual <= TOLERANCE)
        self._settle(done, LeastNormSolution(delta, multipliers, residual, dual.infeasible, converged))
        self._spoil(~finite)
        going = finite & ~done
        # Large sets grow by half, so that rounds stay few.
        most = ((self.index >= 0).sum(dim=1) // 2).clamp(min=_TOGETHER)
        self._go_on(going)
        return foremost(left[going], count.minimum(most)[going])

    def result(self) -> LazySolution:
        """What was found; a working set is given on without its idle members."""
        weights = self._found.multipliers
        working = foremost(weights, (weights > 0).sum(dim=1))
        costs = self.products.vjps, self.products.jvps, self.products.forwards
        return LazySolution(self._found, working, self._finite, *costs, self._forward_mode)

    def _outside(self, pushed: Tensor, dtype: torch.dtype) -> Tensor:
        """By how much more than rounding (b, k) constraints outside the working sets are violated; -inf for members."""
        size = self.values.abs().amax(dim=1) + pushed.abs().amax(dim=1)
        left = self.demand + self.region.violations(pushed) - _ROUNDING * torch.finfo(dtype).eps * size[:, None]
        # One place more than there are constraints, for what only fills up.
        members = self.index % (left.shape[1] + 1)
        return functional.pad(left, (0, 1)).scatter(1, members, -torch.inf)[:, :-1]

    def _solve_by_all_rows(self) -> Tensor:
        """Solves the images in work with their whole Jacobian; they leave."""
        self._forward_mode = False
        count = torch.full((len(self.values),), self.values.shape[1], device=self.values.device)
        jacobian = self.products.rows(every_row(self.values), count)
        finite = all_finite(jacobian)
        self._spoil(~finite)
        self._go_on(finite)
        found = least_norm(jacobian[finite], self.values, self.region, self.margin)
        self._settle(torch.ones_like(found.converged), found)
        self._go_on(torch.zeros_like(found.converged))
        return self.index

    def _settle(self, done: Tensor, solution: LeastNormSolution) -> None:
        """Notes the solutions of some (b,) of the images in work."""
        for part in fields(solution):
            getattr(self._found, part.name)[self.products.place[done]] = getattr(solution, part.name)[done]

    def _spoil(self, spoilt: Tensor) -> None:
        """Notes that some (b,) of the images in work have values that are not finite."""
        self._finite[self.products.place[spoilt]] = False
        self._found.residual[self.products.place[spoilt]] = torch.inf
        self._found.converged[self.products.place[spoilt]] = False

    def _go_on(self, going: Tensor) -> None:
        """Keeps some (b,) of the images in work."""
        if bool(going.all()):
            return
        self.region = self.region.select(going.nonzero()[:, 0])
        self.products.keep(going)
        self.values, self.margin = self.values[going], self.margin[going]
        self.demand, self.index, self.rows = self.demand[going], self.index[going], self.rows[going]


def foremost(scores: Tensor, count: Tensor) -> Tensor:
    """Positions (b, j) of the `count` (b,) largest of scores (b, k); -1 fills up."""
    most = int(count.max()) if len(count) else 0
    index = scores.topk(most, dim=1).indices
    return torch.where(torch.arange(most, device=scores.device) < count[:, None], index, -1)


def _packed(index: Tensor) -> Tensor:
    """The same positions (b, j) without columns that only fill up."""
    most = int((index >= 0).sum(dim=1).max()) if len(index) else 0
    return index.sort(dim=1, descending=True).values[:, :most]
