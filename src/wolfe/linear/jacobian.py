"""Jacobians of a batch of images: whole, or by their products with vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

# Values of images that one vectorised backward pass may see, and how many rows must go together to be worth it.
# Few images at a time are mostly overhead, which one pass for many rows pays once; for many images a pass for each
# row is as fast and needs less memory (measured on one core, networks of 0.1 to 1 million parameters).
_TOGETHER, _WORTHWHILE = 1 << 21, 4


class Linearisation:
    """A function around a batch of images: its values there, and products with its Jacobian J.

    The graph of one forward pass is kept as long as the object. The images of a batch must not influence each
    other's values (no batch statistics), so that a gradient summed over the batch holds each image's own.

    Args:
        function: maps images (B, C, H, W) to values (B, n).
        images: (B, C, H, W).

    Attributes:
        values: (B, n), detached.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self._function = function
        with torch.enable_grad():
            self._inputs = images.detach().requires_grad_(True)
            self._outputs = function(self._inputs)
        self.values = self._outputs.detach()

    def rows(self, weights: Tensor) -> Tensor:
        """`w' J` (B, k, *image), detached, for weights (B, k, n): k vector-Jacobian products an image.

        Small batches take many rows in one vectorised pass, large ones one pass a row; networks whose layers cannot be
        vectorised always do the latter.
        """
        images, count = weights.shape[:2]
        if not self._outputs.requires_grad or count == 0:
            return self._inputs.new_zeros(images, count, *self._inputs.shape[1:])
        together = min(count, _TOGETHER // max(1, self._inputs.numel()))
        rows = self._vectorised(weights, together) if together >= _WORTHWHILE else None
        return self._one_by_one(weights) if rows is None else rows

    def jacobian(self) -> Tensor:
        """J itself (B, n, *image), detached: n vector-Jacobian products an image."""
        return self.rows(every_row(self.values))

    def push(self, directions: Tensor) -> Tensor:
        """`J d` (B, n), detached, for directions (B, *image): one Jacobian-vector product an image, in forward mode.

        Attention is worked out by its plain formula, because fused kernels have no forward derivative.
        """
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            dual = forward_ad.make_dual(self._inputs.detach(), directions.to(self._inputs))
            pushed = forward_ad.unpack_dual(self._function(dual)).tangent
        return torch.zeros_like(self.values) if pushed is None else pushed

    def _vectorised(self, weights: Tensor, together: int) -> Tensor | None:
        """So many rows in one backward pass; None where a layer does not allow that."""
        parts = []
        for wanted in weights.transpose(0, 1).to(self._outputs).split(together):
            try:
                (part,) = torch.autograd.grad(
                    self._outputs, self._inputs, wanted, retain_graph=True, is_grads_batched=True, allow_unused=True
                )
            except RuntimeError:
                return None
            parts.append(self._inputs.new_zeros(len(wanted), *self._inputs.shape) if part is None else part)
        return torch.cat(parts).transpose(0, 1).detach()

    def _one_by_one(self, weights: Tensor) -> Tensor:
        """One backward pass a row."""
        rows = [
            torch.autograd.grad(self._outputs, self._inputs, wanted, retain_graph=True, materialize_grads=True)[0]
            for wanted in weights.to(self._outputs).unbind(dim=1)
        ]
        return torch.stack(rows, dim=1).detach()


def dense_jacobian(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Values (B, n) and their Jacobian (B, n, *image), detached; see :class:`Linearisation`.

    Args:
        function: maps images (B, C, H, W) to values (B, n).
        images: (B, C, H, W).

    Returns:
        The values and the Jacobian.
    """
    local = Linearisation(function, images)
    return local.values, local.jacobian()


def every_row(values: Tensor) -> Tensor:
    """The weights (B, n, n) whose rows are the Jacobian itself, for values (B, n)."""
    return torch.eye(values.shape[1], dtype=values.dtype, device=values.device).expand(len(values), -1, -1)
