"""Jacobians of a batch of images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def dense_jacobian(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, n) and their Jacobian (B, n, *image), detached.

    The images of a batch must not influence each other's logits (no batch statistics), so that the gradient of a
    logit summed over the batch holds each image's own row. One backward pass a logit over the whole batch is,
    on the processors measured, faster than one vectorised pass over all logits, and needs n times less memory.

    Args:
        function: maps images (B, C, H, W) to logits (B, n).
        images: (B, C, H, W).

    Returns:
        The logits and the Jacobian.
    """
    with torch.enable_grad():
        inputs = images.detach().requires_grad_(True)
        logits = function(inputs)
        rows = []
        outputs = logits.shape[1]
        for output in range(outputs):
            if not logits.requires_grad:
                rows.append(torch.zeros_like(inputs))
                continue
            (row,) = torch.autograd.grad(
                logits[:, output].sum(), inputs, retain_graph=output + 1 < outputs, allow_unused=True
            )
            rows.append(torch.zeros_like(inputs) if row is None else row)
    return logits.detach(), torch.stack(rows, dim=1)
