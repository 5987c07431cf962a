"""An ECOC ensemble: one VGG16 branch per code bit over a shared, frozen bottom.

The networks of the JMA paper for error-correcting output codes: the layers up to the second pooling are shared,
the rest of VGG16 with its dense layers stands once per bit and ends in one logit. All branches run at once, as
grouped convolutions and batched matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from wolfe.models.branch_rows import BranchLinearisation
from wolfe.models.vgg import (
    BOTTOM,
    DENSE,
    FIRST_LOGITS,
    PLAN,
    VGG16,
    convolutions,
    dense_size,
    initialise,
    own_names,
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
        branches_from_bottom: each branch begins with all layers of the network that gives the bottom but the last, as
            the names of the paper's published weights suggest (a VGG16 trained by softmax on the same data); without,
            with fresh ones.

    Raises:
        ValueError: an image size or two widths that cannot be.
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
        branches_from_bottom: bool = False,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.branches_from_bottom = branches_from_bottom
        branch_width = width if branch_width is None else branch_width
        if branches_from_bottom and branch_width != width:
            raise ValueError(
                f"vgg16_ensemble: branches_from_bottom needs branches of the bottom's width {width:g}, not of "
                f"{branch_width:g}: leave branch_width out"
            )
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
        """Takes the layers up to the second pooling from a trained VGG16, and the branches' if that is wanted.

        Raises:
            ValueError: it is no VGG16, or its layers have other shapes (another width, or other images).
        """
        if not isinstance(source, VGG16):
            raise ValueError("bottom: a vgg16_ensemble shares the first layers of a VGG16, and this is none")
        self._take(source.state_dict())

    def adopt(self, tensors: Mapping[str, Tensor], new_head: bool) -> None:  # noqa: ARG002
        """Takes torchvision's tensors of a VGG16: the bottom's, and the branches' if that is wanted.

        Hidden dense layers are taken for images of the published size alone, as by :meth:`VGG16.adopt`.

        Args:
            tensors: of torchvision's vgg16, or vgg16_bn with `batch_norm`.
            new_head: the last layers always stay as they are: they tell bits.

        Raises:
            ValueError: they do not fit.
        """
        found, first = own_names(tensors), self.dense[0]
        assert isinstance(first, BranchLinear)
        weight = found.get("dense.1.weight")
        if weight is None or weight.T.shape != first.weight.shape[1:]:
            found = {key: value for key, value in found.items() if key.startswith("features.")}
        self._take(found)

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        """The bottom, and the branches if that is wanted, from a VGG16's tensors; dense layers only if it has some.

        Raises:
            ValueError: they have other shapes.
        """
        shared = len(self.bottom)
        features = {key.removeprefix("features."): value for key, value in tensors.items() if key[:9] == "features."}
        lower = {key: value for key, value in features.items() if _index(key) < shared}
        try:
            self.bottom.load_state_dict(lower)
            if self.branches_from_bottom:
                upper = {_moved(key, -shared): value for key, value in features.items() if key not in lower}
                self.branches.load_state_dict({key: _repeated(value, self.outputs) for key, value in upper.items()})
                self._take_dense(tensors)
        except RuntimeError as error:
            raise ValueError(
                "the network whose bottom is to be shared has other layers: give both the same width, "
                "batch_norm and image channels"
            ) from error

    def _take_dense(self, tensors: Mapping[str, Tensor]) -> None:
        """Each branch's hidden dense layers; what stands before them in a VGG16 is its flattening."""
        # The last layer tells classes there and a bit here: it stays fresh.
        for index, layer in enumerate(list(self.dense)[:-1]):
            if isinstance(layer, BranchLinear) and f"dense.{index + 1}.weight" in tensors:
                weight, bias = (tensors[f"dense.{index + 1}.{name}"] for name in ("weight", "bias"))
                layer.load_state_dict(
                    {
                        "weight": weight.T.expand(self.outputs, -1, -1),
                        "bias": bias.expand(self.outputs, 1, -1),
                    }
                )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n) of normalised images (B, C, H, W)."""
        features: Tensor = self.bottom(x)
        return self.branch_logits(features.repeat(1, self.outputs, 1, 1))

    def branch_logits(self, expanded: Tensor) -> Tensor:
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


def _index(key: str) -> int:
    """The place in its stack of the layer that a tensor belongs to."""
    return int(key.split(".")[0])


def _moved(key: str, by: int) -> str:
    """A tensor's name, its layer standing at another place."""
    place, name = key.split(".", 1)
    return f"{int(place) + by}.{name}"


def _repeated(value: Tensor, times: int) -> Tensor:
    """A layer's tensor for as many groups of the same layer; counts of batches are no one's own."""
    return value if value.ndim == 0 else value.repeat(times, *[1] * (value.ndim - 1))
