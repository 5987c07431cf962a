"""The rank of Jacobians in single precision."""

from __future__ import annotations

import torch
from torch import Tensor

from wolfe.linear.finite import all_finite
from wolfe.linear.products import gram_matrix

ROUNDING = 16 * torch.finfo(torch.float32).eps
"""Relative error of an entry of a Jacobian that sums over a network's layers leave; n rows of it have sqrt(n) times the
norm, whatever the size of the image."""


def rank_and_ratio(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Rank (b,) and least over largest singular value (b,) of Jacobians (b, n, *image); 0 where one is 0 or not finite.

    From the eigenvalues of J J' in double precision: n is small, and squaring costs digits that single precision
    did not have.
    """
    gram = gram_matrix(jacobian)
    usable = all_finite(gram)
    gram = torch.where(usable[:, None, None], gram, torch.zeros_like(gram))
    squares = torch.linalg.eigvalsh(gram).clamp(min=0)
    singular = squares.sqrt()
    largest = singular[:, -1]
    tolerance = largest * gram.shape[1] ** 0.5 * ROUNDING
    rank = (singular > tolerance[:, None]).sum(dim=1)
    ratio = torch.where(largest > 0, singular[:, 0] / largest.clamp(min=1e-300), torch.zeros_like(largest))
    return rank, ratio
