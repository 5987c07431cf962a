"""InceptionV3 at a share of its channels and blocks (C. Szegedy et al., 2015, https://arxiv.org/abs/1512.00567).

The layers and their wiring are those of timm; only the counts change, so that the network of the JMA paper's
multi-label experiments also exists at a size that a laptop trains.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from wolfe.models.vgg import FIRST_LOGITS, initialise

# All of InceptionV3's channel counts are multiples of this, so a width in these parts keeps every count whole.
PARTS = 16
# The blocks of each kind, in order. Those of `_REPEATED` map a shape to itself, so the ones at the end can go.
_BLOCKS = (
    ("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7b", "Mixed_7c"),
)
_KINDS = ("A", "C", "E")
_FEWEST = (2, 1, 1)
_UNPADDED = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_4a_3x3")
# The least picture side that leaves one pixel at the end, with the published stem and with that for small pictures.
_LEAST_SIZE = {False: 75, True: 29}


def inception_v3(
    in_channels: int,
    outputs: int,
    image_size: int,
    *,
    width: float = 1.0,
    blocks: Sequence[int] = (3, 4, 2),
    small_images: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """InceptionV3 without its second classifier, with fresh weights.

    Args:
        in_channels: channels of an image.
        outputs: n, the number of logits.
        image_size: height and width; at least 75, or 29 with `small_images`.
        width: share of the full channel counts, a multiple of 1/16.
        blocks: how many of the 3 A, 4 C and 2 E blocks are kept, the first ones of each kind.
        small_images: pad the stem's convolutions and leave out its second pooling, so that 64 pixels end as 3
            places to average over, not as a single one.
        dropout: share of the last features left out in training.

    Raises:
        ValueError: a width, number of blocks or image size that this network cannot have.
    """
    import timm  # here, since it takes seconds and other networks do not need it

    _check(width, blocks, image_size, small_images)
    # On the meta device nothing is stored or drawn: every layer gets its real parameters below.
    network: nn.Module = timm.create_model(
        "inception_v3", in_chans=in_channels, num_classes=outputs, aux_logits=False, drop_rate=dropout, device="meta"
    )
    for names, kept in zip(_BLOCKS, blocks, strict=True):
        for name in names[kept:]:
            setattr(network, name, nn.Identity())
    if small_images:
        network.Pool2 = nn.Identity()
        for name in _UNPADDED:
            setattr(network.get_submodule(f"{name}.conv"), "padding", (1, 1))  # noqa: B010
    _narrow(network, in_channels, width)
    return network


def _check(width: float, blocks: Sequence[int], image_size: int, small_images: bool) -> None:
    if width < 1 / PARTS or (width * PARTS) % 1:
        raise ValueError(f"inception_v3: width must be a multiple of 1/{PARTS}, at least 1/{PARTS}, got {width}")
    most = [len(names) for names in _BLOCKS]
    if len(blocks) != len(most) or not all(
        least <= count <= full for least, count, full in zip(_FEWEST, blocks, most, strict=True)
    ):
        ranges = ", ".join(f"{low} to {high} {kind}" for low, high, kind in zip(_FEWEST, most, _KINDS, strict=True))
        raise ValueError(f"inception_v3: blocks are three counts, {ranges}, got {list(blocks)}")
    if image_size < _LEAST_SIZE[small_images]:
        raise ValueError(
            f"inception_v3 takes images of at least {_LEAST_SIZE[False]} pixels, or {_LEAST_SIZE[True]} with "
            f"small_images, got {image_size}"
        )


def _narrow(network: nn.Module, in_channels: int, width: float) -> None:
    """Gives every layer its share of the channels and fresh parameters, the image's channels and the logits kept."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            first = name == "Conv2d_1a_3x3.conv"
            module.in_channels = in_channels if first else round(module.in_channels * width)
            module.out_channels = round(module.out_channels * width)
            shape = (module.out_channels, module.in_channels, *module.kernel_size)
            module.weight = nn.Parameter(torch.empty(shape))
        elif isinstance(module, nn.BatchNorm2d):
            _renew(module, round(module.num_features * width))
    output = network.get_submodule("fc")
    assert isinstance(output, nn.Linear)
    features = round(output.in_features * width)
    network.fc = nn.Linear(features, output.out_features)
    network.num_features = network.head_hidden_size = features  # type: ignore[assignment]
    initialise(network)
    nn.init.normal_(network.fc.weight, std=FIRST_LOGITS)


def _renew(norm: nn.BatchNorm2d, features: int) -> None:
    """A normalisation of another number of channels, at its start."""
    norm.num_features = features
    norm.weight, norm.bias = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
    norm.running_mean, norm.running_var = torch.zeros(features), torch.ones(features)
    norm.num_batches_tracked = torch.tensor(0)
