"""An ECOC ensemble: one VGG16 branch per code bit over a shared, frozen bottom.

The networks of the JMA paper for error-correcting output codes: the layers up to the second pooling are shared,
the rest of VGG16 with its dense layers stands once per bit and ends in one logit. All branches run at once, as
grouped convolutions and batched matrix products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wolfe.linear import Linearisation
from wolfe.linear.memory import allocated
from wolfe.models.vgg import (
    BOTTOM,
    DENSE,
    FIRST_LOGITS,
    PLAN,
    VGG16,
    convolutions,
    dense_size,
    initialise,
    scaled,
)


class BranchLinear(nn.Module):
    """One dense layer per branch.

    Args:
        branches: number of branches.
        in_features: inputs of each.
        out_features: outputs of each.
        scale: standard deviation of the first weights; He's if left out.
    """

    def __init__(self, branches: int, in_features: int, out_features: int, scale: float | None = None) -> None:
        super().__init__()
        # nn.init would take the wrong fan from a stack of matrices.
        scale = (2.0 / in_features) ** 0.5 if scale is None else scale
        self.weight = nn.Parameter(torch.randn(branches, in_features, out_features) * scale)
        self.bias = nn.Parameter(torch.zeros(branches, 1, out_features))

    def forward(self, x: Tensor) -> Tensor:
        """(branches, B, in) to (branches, B, out)."""
        return torch.baddbmm(self.bias, x, self.weight)


class VGG16Ensemble(nn.Module):
    """Shared bottom, then one branch per bit; each branch gives one logit.

    The bottom is frozen: its parameters take no gradient and its batch normalisation stays in evaluation mode.

    Args:
        in_channels: channels of an image.
        outputs: n, the number of bits and branches.
        image_size: height and width, a multiple of 32.
        width: share of VGG16's full channel counts, the bottom's.
        batch_norm: normalise after each convolution.
        dropout: share of the dense layers' values left out in training.
        branch_width: share of VGG16's full channel counts in the branches; None for `width`.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        image_size: int,
        width: float = 1.0,
        batch_norm: bool = True,
        dropout: float = 0.5,
        branch_width: float | None = None,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        branch_width = width if branch_width is None else branch_width
        hidden = scaled(DENSE, branch_width)
        shared = scaled(128, width)
        self.bottom = convolutions(PLAN[:BOTTOM], in_channels, width, batch_norm=batch_norm)
        self.branches = convolutions(PLAN[BOTTOM:], shared, branch_width, groups=outputs, batch_norm=batch_norm)
        initialise(self)
        self.dense = nn.Sequential(
            BranchLinear(outputs, dense_size(image_size, branch_width), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            BranchLinear(outputs, hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            BranchLinear(outputs, hidden, 1, scale=FIRST_LOGITS),
        )
        self.bottom.requires_grad_(False)
        self.bottom.eval()

    def train(self, mode: bool = True) -> VGG16Ensemble:
        """Training mode for the branches alone: the bottom stays as it was learned."""
        super().train(mode)
        self.bottom.eval()
        return self

    def copy_bottom(self, source: nn.Module) -> None:
        """Takes the layers up to the second pooling from a trained VGG16.

        Raises:
            ValueError: it is no VGG16, or its layers have other shapes (another width, or other images).
        """
        if not isinstance(source, VGG16):
            raise ValueError("bottom: a vgg16_ensemble shares the first layers of a VGG16, and this is none")
        try:
            self.bottom.load_state_dict(source.bottom().state_dict())
        except RuntimeError as error:
            raise ValueError(
                "the network whose bottom is to be shared has other layers: give both the same width, "
                "batch_norm and image channels"
            ) from error

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n) of normalised images (B, C, H, W)."""
        features: Tensor = self.bottom(x)
        return self._branch_logits(features.repeat(1, self.outputs, 1, 1))

    def _branch_logits(self, expanded: Tensor) -> Tensor:
        """Logits (B, n) of features (B, n * c, h, w), a copy for each branch."""
        images = expanded.shape[0]
        top = self.branches(expanded)
        values = self.dense(top.reshape(images, self.outputs, -1).transpose(0, 1))
        logits: Tensor = values[..., 0].T
        return logits

    def linearise(self, images: Tensor, normalise: Callable[[Tensor], Tensor]) -> BranchLinearisation:
        """The ensemble around images (B, C, H, W), with rows at a fraction of full backward passes.

        Args:
            images: (B, C, H, W) in [0, 1].
            normalise: what is done to images before they come in.
        """
        return BranchLinearisation(self, images, normalise)


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
            logits = ensemble._branch_logits(expanded)
            (by_features,) = torch.autograd.grad(logits.sum(), expanded)
        self.values = logits.detach()
        self._by_features = by_features.view(len(images), ensemble.outputs, -1)

    def rows(self, weights: Tensor) -> Tensor:
        """`w' J` (B, k, *image), detached, for weights (B, k, n)."""
        cotangents = weights.to(self._by_features) @ self._by_features
        return super().rows(cotangents.unflatten(2, self._outputs.shape[1:]))
