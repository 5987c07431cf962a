"""The dual of the least-norm problem: a small non-negative quadratic programme for every image of a batch.

    minimise 1/2 w' H w - b' w  over w >= 0,  H (k, k) symmetric positive semi-definite

Two methods work together. Block principal pivoting (Portugal, Judice, Vicente 1994) exchanges many constraints at
once and settles nearly every problem in a few rounds, but may cycle or meet a singular block. What it leaves goes to
an active-set method that takes one constraint at a time (Lawson, Hanson 1974, chapter 23: least-distance
programming), which also tells when there is no solution. Every answer carries the residual of its optimality
conditions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-8
_PIVOT_ROUNDS = 30
_RIDGE = 1e-13
# The squared norm of the solution, in units of the largest distance to a single plane, is 1 / remainder - 1: beyond
# a norm of 1e5 there is no solution; beyond 1e3 there is none if what was found does not hold.
_NO_SOLUTION, _DOUBTFUL = 1e-10, 1e-6
# The norm of a row that counts as none: below it divisions overflow. Rows of any other size are scaled to norm 1.
_EMPTY = 1e-140


@dataclass(frozen=True)
class DualSolution:
    """Solutions of a batch: multipliers (B, k), residual, infeasible and converged (B,); see LeastNormSolution."""

    multipliers: Tensor
    residual: Tensor
    infeasible: Tensor
    converged: Tensor


def solve_dual(gram: Tensor, demand: Tensor, tolerance: float = TOLERANCE) -> DualSolution:
    """Solves `min 1/2 w' H w - b' w, w >= 0` for every image.

    Args:
        gram: H (B, k, k), float64, symmetric positive semi-definite.
        demand: b (B, k), float64.
        tolerance: the largest relative residual that counts as solved.

    Returns:
        Multipliers and their certificate. Where the problem is unbounded (the constraints it is the dual of have
        no common point) the multipliers are 0 and `infeasible` is set.
    """
    scale = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    empty = scale <= _EMPTY
    inverse = torch.where(empty, torch.zeros_like(scale), 1 / scale.clamp(min=1e-300))
    scaled = gram * inverse[:, :, None] * inverse[:, None, :]
    wanted = torch.where(empty, torch.zeros_like(demand), demand * inverse)
    infeasible = (empty & (demand > 0)).any(dim=1)
    # In units of the largest demand, so that one tolerance serves all problems.
    unit = wanted.clamp(min=0).amax(dim=1)
    wanted = torch.where(unit[:, None] > 0, wanted / unit.clamp(min=1e-300)[:, None], wanted.clamp(max=0))
    weights = _block_pivoting(scaled, wanted)
    residual = optimality_residual(scaled, wanted, weights)
    hard = (~infeasible & ~(residual <= tolerance)).nonzero()[:, 0]
    if len(hard):
        # One constraint at a time is a chain of tiny decisions: the processor's work, whatever the device.
        found, unsolvable = _least_distance(scaled[hard].cpu(), wanted[hard].cpu())
        weights[hard], infeasible[hard] = found.to(weights), unsolvable.to(infeasible.device)
        residual[hard] = optimality_residual(scaled[hard], wanted[hard], weights[hard])
    weights = torch.where(infeasible[:, None], torch.zeros_like(weights), weights)
    converged = ~infeasible & (residual <= tolerance)
    return DualSolution(weights * unit[:, None] * inverse, residual, infeasible, converged)


def optimality_residual(gram: Tensor, demand: Tensor, weights: Tensor) -> Tensor:
    """The largest violation (B,) of the optimality conditions of `min 1/2 w' H w - b' w, w >= 0`.

    With s = H w - b: s >= 0 everywhere, s = 0 where w > 0, w >= 0. For H with unit diagonal and the largest demand
    1 it is a relative figure. NaN counts as infinite.
    """
    slack = torch.einsum("bij,bj->bi", gram, weights) - demand
    wrong = torch.where(weights > 0, slack.abs(), (-slack).clamp(min=0)) + (-weights).clamp(min=0)
    return wrong.amax(dim=1).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _solve_on(gram: Tensor, demand: Tensor, chosen: Tensor) -> Tensor:
    """Weights (B, k) that make the chosen constraints equalities and are 0 elsewhere; NaN where that is singular."""
    both = chosen[:, :, None] & chosen[:, None, :]
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    # A ridge far below the tolerance keeps duplicated rows solvable; one refinement takes its effect out again.
    matrix = torch.where(both, gram, torch.zeros_like(gram)) + torch.where(chosen, _RIDGE, 1.0)[:, None, :] * identity
    right = torch.where(chosen, demand, torch.zeros_like(demand))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    weights = torch.cholesky_solve(right[:, :, None], factor)
    exact = matrix - torch.where(chosen, _RIDGE, 0.0)[:, None, :] * identity
    weights = weights + torch.cholesky_solve(right[:, :, None] - exact @ weights, factor)
    return torch.where(failed[:, None] == 0, weights[:, :, 0], torch.full_like(demand, torch.nan)) * chosen


def _block_pivoting(gram: Tensor, demand: Tensor) -> Tensor:
    """Weights (B, k) by block principal pivoting; images that do not settle come back unsettled."""
    chosen = demand > 0
    weights = torch.zeros_like(demand)
    fewest = torch.full((len(demand),), demand.shape[1] + 1, device=demand.device)
    patience = torch.full_like(fewest, 3)
    active = torch.arange(len(demand), device=demand.device)
    for _ in range(_PIVOT_ROUNDS):
        part = _solve_on(gram[active], demand[active], chosen[active])
        slack = torch.einsum("bij,bj->bi", gram[active], part) - demand[active]
        wrong = torch.where(chosen[active], part < 0, slack < -1e-12)
        count = wrong.sum(dim=1)
        weights[active] = part.clamp(min=0)
        unsettled = (count > 0) & part.isfinite().all(dim=1)
        # All wrong constraints change sides while that makes progress; then, after three more tries, only the last.
        better = count < fewest[active]
        fewest[active] = torch.where(better, count, fewest[active])
        patience[active] = torch.where(better, 3, patience[active] - 1)
        last = wrong.long().cumsum(dim=1).eq(count[:, None]) & wrong
        exchange = torch.where((patience[active] >= 0)[:, None], wrong, last)
        chosen[active] ^= exchange & unsettled[:, None]
        active = active[unsettled]
        if len(active) == 0:
            break
    return weights


def _least_distance(gram: Tensor, demand: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, k) and whether there is no solution (B,), one image at a time.

    The augmented problem `min ||E u - e||^2, u >= 0` with E = [A; b'], e = (0, ..., 0, 1) always has a solution,
    also where the rows A depend on each other; with r = 1 - b'u the weights are u / r, and r = 0 says that there is
    no solution. Its normal matrix is H + b b'.
    """
    weights = torch.zeros_like(demand)
    unsolvable = torch.zeros(len(demand), dtype=torch.bool, device=demand.device)
    for image in range(len(demand)):
        solution = _lawson_hanson(gram[image] + torch.outer(demand[image], demand[image]), demand[image])
        remainder = float(1 - demand[image] @ solution)
        if remainder > _NO_SOLUTION:
            weights[image] = _polished(gram[image], demand[image], solution / remainder)
            residual = optimality_residual(gram[image, None], demand[image, None], weights[image, None])
            unsolvable[image] = bool(residual > TOLERANCE) and remainder <= _DOUBTFUL
        else:
            unsolvable[image] = True
    return weights, unsolvable


def _lawson_hanson(matrix: Tensor, right: Tensor) -> Tensor:
    """The solution (k,) of `min 1/2 u' M u - r' u, u >= 0` by active sets, for M positive semi-definite."""
    size = len(right)
    chosen = torch.zeros(size, dtype=torch.bool, device=right.device)
    solution = torch.zeros_like(right)
    for _ in range(10 * size + 50):
        gradient = right - matrix @ solution
        candidates = torch.where(chosen, torch.full_like(gradient, -torch.inf), gradient)
        if candidates.max() <= 1e-13:
            break
        chosen[candidates.argmax()] = True
        while bool(chosen.any()):
            index = chosen.nonzero()[:, 0]
            trial = _least_squares(matrix, right, index)
            if bool((trial > 0).all()):
                solution = torch.zeros_like(right)
                solution[index] = trial
                break
            falling = trial <= 0
            step = (solution[index] / (solution[index] - trial))[falling].min()
            solution[index] = (solution[index] + step * (trial - solution[index])).clamp(min=0)
            solution[index[falling & (solution[index] <= 1e-15)]] = 0
            chosen &= solution > 0
    return solution


def _least_squares(matrix: Tensor, right: Tensor, index: Tensor) -> Tensor:
    """The least-squares solution of the chosen rows and columns, whatever their rank."""
    chosen = matrix[index[:, None], index]
    return torch.linalg.lstsq(chosen, right[index, None], driver="gelsd").solution[:, 0]


def _polished(gram: Tensor, demand: Tensor, weights: Tensor) -> Tensor:
    """The same active set solved once more without the augmentation, if that is better."""
    index = (weights > 0).nonzero()[:, 0]
    driver = "gelsd" if demand.device.type == "cpu" else None
    trial = torch.zeros_like(weights)
    trial[index] = torch.linalg.lstsq(gram[index[:, None], index], demand[index, None], driver=driver).solution[:, 0]
    pair = torch.stack([weights, trial])
    residual = optimality_residual(gram.expand(2, -1, -1), demand.expand(2, -1), pair)
    return pair[int(residual.argmin())]
