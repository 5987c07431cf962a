"""VGG16 with a width parameter (K. Simonyan, A. Zisserman, 2015, https://arxiv.org/abs/1409.1556, column D)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wolfe.models.adopting import load_state

# Output channels of each convolution at full width; "pool" halves height and width.
PLAN: tuple[int | str, ...] = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
    *(512, 512, 512, "pool", 512, 512, 512, "pool"),
)
DENSE = 4096
# Items of the plan up to the second pooling, the part that an ECOC ensemble shares.
BOTTOM = 6
SHRINKING = 32
# Places of the two hidden layers among the dense ones.
_HIDDEN = (1, 4)
# Standard deviation of the output layer's first weights, as in the paper: training starts with logits near 0.
FIRST_LOGITS = 0.01


def scaled(channels: int, width: float) -> int:
    """A channel count at a share of the full width, at least 1."""
    return max(1, round(channels * width))


def convolutions(
    plan: tuple[int | str, ...],
    in_channels: int,
    width: float = 1.0,
    groups: int = 1,
    batch_norm: bool = True,
) -> nn.Sequential:
    """The convolutional layers of a plan.

    Args:
        plan: items of `PLAN`.
        in_channels: channels of the input, per group.
        width: share of the full channel counts.
        groups: networks side by side; all channel counts are times this, and no group sees another.
        batch_norm: normalise after each convolution.

    Returns:
        Maps (B, groups * in_channels, H, W) to (B, groups * last channels, H / 2**pools, W / 2**pools).
    """
    layers: list[nn.Module] = []
    for item in plan:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2))
            continue
        out_channels = scaled(item, width)
        layers.append(nn.Conv2d(groups * in_channels, groups * out_channels, 3, padding=1, groups=groups))
        if batch_norm:
            layers.append(nn.BatchNorm2d(groups * out_channels))
        layers.append(nn.ReLU())
        in_channels = out_channels
    return nn.Sequential(*layers)


def dense_size(image_size: int, width: float) -> int:
    """Values that reach the first dense layer, for square images of `image_size` pixels.

    Raises:
        ValueError: the size is not a multiple of 32 (five poolings).
    """
    if image_size < SHRINKING or image_size % SHRINKING:
        raise ValueError(f"VGG16 takes images whose side is a multiple of {SHRINKING}, got {image_size}")
    return scaled(512, width) * (image_size // SHRINKING) ** 2


class VGG16(nn.Module):
    """Thirteen convolutions, two hidden dense layers, one output layer.

    Args:
        in_channels: channels of an image.
        outputs: n, the number of logits.
        image_size: height and width, a multiple of 32.
        width: share of the full channel counts (64 to 512, and 4096 in the dense layers).
        batch_norm: normalise after each convolution.
        dropout: share of the dense layers' values left out in training.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        image_size: int,
        width: float = 1.0,
        batch_norm: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = scaled(DENSE, width)
        self.features = convolutions(PLAN, in_channels, width, batch_norm=batch_norm)
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(dense_size(image_size, width), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),
        )
        initialise(self)
        output = self.dense[-1]
        assert isinstance(output, nn.Linear)
        nn.init.normal_(output.weight, std=FIRST_LOGITS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n) of normalised images (B, C, H, W)."""
        logits: Tensor = self.dense(self.features(x))
        return logits

    def adopt(self, tensors: Mapping[str, Tensor], new_head: bool) -> None:
        """Takes torchvision's tensors of the same network.

        Hidden dense layers know the places of an image, so they are taken for images of the published size alone;
        for others all dense layers stay as they are.

        Args:
            tensors: of torchvision's vgg16, or vgg16_bn with `batch_norm`.
            new_head: the last layer stays as it is too.

        Raises:
            ValueError: they do not fit.
        """
        found, own = own_names(tensors), self.state_dict()
        first, last = f"dense.{_HIDDEN[0]}.weight", f"dense.{_HIDDEN[1] + 3}."
        same_places = first in found and found[first].shape == own[first].shape
        fresh = () if not new_head else (last,) if same_places else ("dense.",)
        state = {key: value for key, value in found.items() if not key.startswith(fresh)}
        load_state(self, state | {key: value for key, value in own.items() if key.startswith(fresh)})

    def bottom(self) -> nn.Sequential:
        """The layers up to the second pooling (the same modules, not copies)."""
        return nn.Sequential(*list(self.features)[: bottom_length(self.features)])


def own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's tensors by the names that they have here, where flattening is a layer of the dense ones."""
    found = {}
    for key, value in tensors.items():
        part, place, name = key.split(".") if key.count(".") == 2 else ("", "", key)
        found[f"dense.{int(place) + 1}.{name}" if part == "classifier" else key] = value
    return found


def bottom_length(features: nn.Sequential) -> int:
    """How many layers of a stack stand before or at its second pooling."""
    pools = [index for index, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    return pools[1] + 1


def initialise(network: nn.Module) -> None:
    """He initialisation by fan-in, which holds for grouped convolutions too; biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
