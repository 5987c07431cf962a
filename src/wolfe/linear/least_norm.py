"""The least-norm perturbation into a linearised region.

Problem, for every image of a batch:

    minimise ||delta||  subject to  R (v + J delta) <= -margin

with v (n) the logits, J (n, m) their Jacobian and R (k, n) the rows of the target region. Its dual has k unknowns:

    minimise 1/2 w' H w - b' w  over w >= 0,   H = R J J' R',   b = R v + margin,   delta = -J' R' w

(JMA paper, Section V; the inverse of J J' is never needed). The two have the same solutions, whatever the rank of J:
delta is optimal exactly if with some w >= 0

    delta = -J' R' w,   R (v + J delta) + margin <= 0,   and w_i = 0 wherever that is below 0,

so w is a certificate that anybody can check. Where the dual has no lower bound no delta meets the constraints.
:mod:`wolfe.linear.lazy` solves the same problem without J.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from wolfe.linear.dual import TOLERANCE, solve_dual
from wolfe.linear.finite import all_finite
from wolfe.linear.memory import out_of_memory
from wolfe.linear.products import gram_matrix, pull_back


class Region(Protocol):
    """The part of a target region that the solver uses."""

    def violations(self, values: Tensor) -> Tensor:
        """`R v` (B, k)."""

    def pull(self, weights: Tensor) -> Tensor:
        """`R' w` (B, n)."""

    def dense(self, like: Tensor) -> Tensor:
        """R (B, k, n)."""


@dataclass(frozen=True)
class LeastNormSolution:
    """Least-norm perturbations of a batch.

    Attributes:
        perturbation: delta (B, *image); 0 where there is no solution.
        multipliers: w (B, k), float64, at least 0; the certificate: delta = -J' R' w.
        residual: (B,) float64, the largest violation of the optimality conditions (feasibility and
            complementarity, in units of the rows' norms) relative to the largest demand.
            Infinite where values, Jacobian or margin are not finite.
        infeasible: (B,) whether no perturbation meets the linearised constraints, or (of nearly contradicting ones)
            only one that is thousands of times larger than the distance to any single plane.
        converged: (B,) whether the residual is below the solver's tolerance; False where infeasible or not finite.
    """

    perturbation: Tensor
    multipliers: Tensor
    residual: Tensor
    infeasible: Tensor
    converged: Tensor


def least_norm(jacobian: Tensor, values: Tensor, region: Region, margin: float | Tensor = 0.0) -> LeastNormSolution:
    """Solves `min ||delta|| s.t. R (v + J delta) <= -margin` exactly, image by image, in one batch.

    The small problem is solved in float64 whatever the type of the Jacobian; rank-deficient and duplicated rows
    are allowed.

    Example: the nearest point to the origin where x + y >= 2, the sign of a single bit.

        >>> import torch
        >>> from wolfe.linear import least_norm
        >>> from wolfe.region import BitRegion
        >>> jacobian, values = torch.ones(1, 1, 2), torch.tensor([[-2.0]])
        >>> least_norm(jacobian, values, BitRegion(torch.tensor([[1.0]]))).perturbation
        tensor([[1., 1.]])

    Args:
        jacobian: J (B, n, *image).
        values: v (B, n), logits or outputs at the present images.
        region: the target region of the batch.
        margin: how far inside the region to go, in units of the values; 0 is its boundary. A number, or a tensor
            that broadcasts to (B, k).

    Returns:
        The perturbations, in the type and shape of the images, and their certificate.

    Raises:
        ValueError: the Jacobian, the values and the region do not belong together.
    """
    if jacobian.shape[:2] != values.shape:
        raise ValueError(
            f"jacobian {tuple(jacobian.shape)} and values {tuple(values.shape)} differ in batch or outputs"
        )
    values = values.double()
    rows, demand = _constraints(region, values, margin)
    gram = rows @ gram_matrix(jacobian) @ rows.mT
    finite = gram.isfinite().all(dim=2).all(dim=1) & demand.isfinite().all(dim=1) & all_finite(jacobian)
    gram, demand = torch.where(finite[:, None, None], gram, 0.0), torch.where(finite[:, None], demand, 0.0)
    dual = solve_dual(gram, demand)
    delta, change = pull_back(jacobian, -region.pull(dual.multipliers))
    # The dual knows the rows by their products alone; what counts is where the perturbation leads.
    left = region.violations(values + change) + margin
    residual = torch.maximum(dual.residual, relative_violation(left, demand, gram))
    residual = torch.where(finite, residual, torch.inf)
    delta = torch.where(finite.view(-1, *[1] * (delta.ndim - 1)), delta, 0)
    return LeastNormSolution(
        delta, dual.multipliers, residual, dual.infeasible, dual.converged & (residual <= TOLERANCE)
    )


def _constraints(region: Region, values: Tensor, margin: float | Tensor) -> tuple[Tensor, Tensor]:
    """R (B, k, n) and `R v + margin` (B, k)."""
    try:
        rows, demand = region.dense(values), region.violations(values) + margin
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise ValueError(f"values {tuple(values.shape)} do not fit the region or the margin: {error}") from error
    if rows.shape[::2] != values.shape or demand.shape != rows.shape[:2]:
        raise ValueError(f"values {tuple(values.shape)} do not fit the region {tuple(rows.shape)} or the margin")
    return rows, demand


def relative_violation(left: Tensor, demand: Tensor, gram: Tensor) -> Tensor:
    """The largest violation that is left (B,), over the largest demand, each in units of its row's norm."""
    norms = gram.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    norms = torch.where(norms > 0, norms, torch.inf)
    worst = (left / norms).clamp(min=0).amax(dim=1)
    unit = (demand / norms).clamp(min=0).amax(dim=1)
    return torch.where(worst > 0, worst / unit.clamp(min=1e-300), worst)
