"""The Jacobian of an ensemble of branches over one bottom, at a fraction of full backward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wolfe.linear import Linearisation
from wolfe.linear.memory import allocated

if TYPE_CHECKING:
    from wolfe.models.ensemble import VGG16Ensemble


class BranchLinearisation(Linearisation):
    """Rows of an ensemble's Jacobian.

    A branch sees only its own copy of the shared features, so one backward pass through all branches gives every
    logit's gradient by the features; only the small bottom is then passed once a row.

    Args:
        ensemble: the network.
        images: (B, C, H, W) in [0, 1].
        normalise: what is done to images before they come in.
    """

    _whole = False

    def __init__(self, ensemble: VGG16Ensemble, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> None:
        self._function = lambda inputs: ensemble(normalise(inputs))
        before = allocated(images.device)
        with torch.enable_grad():
            self._inputs = images.detach().requires_grad_(True)
            self._outputs = ensemble.bottom(normalise(self._inputs))
            self._graph = allocated(images.device) - before
            expanded = self._outputs.detach().repeat(1, ensemble.outputs, 1, 1).requires_grad_()
            logits = ensemble.branch_logits(expanded)
            (by_features,) = torch.autograd.grad(logits.sum(), expanded)
        self.values = logits.detach()
        self._by_features = by_features.view(len(images), ensemble.outputs, -1)

    def rows(self, weights: Tensor) -> Tensor:
        """`w' J` (B, k, *image), detached, for weights (B, k, n)."""
        cotangents = weights.to(self._by_features) @ self._by_features
        return super().rows(cotangents.unflatten(2, self._outputs.shape[1:]))
