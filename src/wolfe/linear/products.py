"""Products with a Jacobian, in double precision and little memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Values that are converted to double precision at a time: what a processor's cache holds, and more on a GPU, where
# every block costs the start of some kernels.
_BLOCK, _BLOCK_ON_CUDA = 1 << 18, 1 << 26


def gram_matrix(jacobian: Tensor) -> Tensor:
    """J J' (B, n, n) of Jacobians (B, n, *image), float64."""
    images, outputs = jacobian.shape[:2]
    total = torch.zeros(images, outputs, outputs, dtype=torch.float64, device=jacobian.device)
    for _, part in _blocks(jacobian):
        total.baddbmm_(part, part.mT)
    return total


def pull_back(jacobian: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """J' w (B, *image), in the Jacobian's type, and J J' w (B, n), float64, for weights (B, n), float64.

    The second is worked out from the first, not from the Gram matrix: it is what a check of the first needs.
    """
    images = len(jacobian)
    pulled = jacobian.new_empty(images, *jacobian.shape[2:])
    flat = pulled.flatten(1)
    pushed = torch.zeros(weights.shape, dtype=torch.float64, device=weights.device)
    for place, part in _blocks(jacobian):
        piece = weights[:, None] @ part
        flat[:, place] = piece[:, 0].to(flat.dtype)
        pushed += (part @ piece.mT)[:, :, 0]
    return pulled, pushed


def _blocks(jacobian: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Places in the flattened image, and the Jacobian (B, n, place) there in double precision."""
    flat = jacobian.flatten(2)
    images, outputs, values = flat.shape
    block = max(1, (_BLOCK_ON_CUDA if flat.is_cuda else _BLOCK) // max(1, images * outputs))
    for begin in range(0, values, block):
        place = slice(begin, begin + block)
        yield place, flat[:, :, place].double()
