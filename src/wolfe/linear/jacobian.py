"""Jacobians of a batch of images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Values of images that one vectorised backward pass may see, and how many logits must go together to be worth it.
# Few images at a time are mostly overhead, which one pass for many logits pays once; for many images a pass for each
# logit is as fast and needs less memory (measured on one core, networks of 0.1 to 1 million parameters).
_TOGETHER, _WORTHWHILE = 1 << 21, 4


def dense_jacobian(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, n) and their Jacobian (B, n, *image), detached.

    The images of a batch must not influence each other's logits (no batch statistics), so that the gradient of a
    logit summed over the batch holds each image's own row. The rows of small batches come from vectorised passes,
    those of large ones from one pass a logit; networks whose layers cannot be vectorised always take the latter.

    Args:
        function: maps images (B, C, H, W) to logits (B, n).
        images: (B, C, H, W).

    Returns:
        The logits and the Jacobian.
    """
    with torch.enable_grad():
        inputs = images.detach().requires_grad_(True)
        logits = function(inputs)
        if not logits.requires_grad:
            return logits.detach(), images.new_zeros(*logits.shape, *images.shape[1:])
        together = min(logits.shape[1], _TOGETHER // max(1, images.numel()))
        rows = _vectorised(logits, inputs, together) if together >= _WORTHWHILE else None
        if rows is None:
            rows = _one_by_one(logits, inputs)
    return logits.detach(), rows


def _vectorised(logits: Tensor, inputs: Tensor, together: int) -> Tensor | None:
    """The rows (B, n, *image), so many logits in one backward pass; None where a layer does not allow that."""
    identity = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    parts = []
    for chosen in identity.split(together):
        wanted = chosen[:, None].expand(-1, len(logits), -1)
        try:
            (part,) = torch.autograd.grad(
                logits, inputs, wanted, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
        except RuntimeError:
            return None
        parts.append(inputs.new_zeros(len(chosen), *inputs.shape) if part is None else part)
    return torch.cat(parts).transpose(0, 1)


def _one_by_one(logits: Tensor, inputs: Tensor) -> Tensor:
    """The rows (B, n, *image), one backward pass a logit."""
    rows = []
    outputs = logits.shape[1]
    for output in range(outputs):
        (row,) = torch.autograd.grad(
            logits[:, output].sum(), inputs, retain_graph=output + 1 < outputs, materialize_grads=True
        )
        rows.append(row)
    return torch.stack(rows, dim=1)
