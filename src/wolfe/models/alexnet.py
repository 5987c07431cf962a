"""AlexNet with a width parameter (A. Krizhevsky, 2014, https://arxiv.org/abs/1404.5997, as torchvision builds it)."""

from __future__ import annotations

from torch import Tensor, nn

from wolfe.models.vgg import DENSE, FIRST_LOGITS, initialise, scaled

# Output channels of the convolutions at full width, their kernels, and whether a pooling follows.
_PLAN = ((64, 11, True), (192, 5, True), (384, 3, False), (256, 3, False), (256, 3, True))
# Kernel, stride and padding of the first convolution: the published one, and that for small images.
_FIRST = {False: (11, 4, 2), True: (5, 2, 2)}
_POOL, _POOL_STRIDE = 3, 2
# Places along a side that the dense layers see at most.
_PLACES = 6


class AlexNet(nn.Module):
    """Five convolutions, two hidden dense layers, one output layer.

    At full width, on images of 224 pixels and without normalisation these are torchvision's layers, by the same names.

    Args:
        in_channels: channels of an image.
        outputs: n, the number of logits.
        image_size: height and width; at least 63, or 29 with `small_images`.
        width: share of the full channel counts (64 to 384, and 4096 in the dense layers).
        batch_norm: normalise after each convolution; the published network does not.
        dropout: share of the dense layers' values left out in training.
        small_images: begin with 5x5 pixels in steps of 2, not with 11x11 in steps of 4.

    Raises:
        ValueError: the images are too small for four halvings.
    """

    def __init__(
        self,
        in_channels: int,
        outputs: int,
        image_size: int,
        width: float = 1.0,
        batch_norm: bool = False,
        dropout: float = 0.5,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        self.features = _convolutions(in_channels, width, batch_norm, small_images)
        places = min(_places(image_size, small_images), _PLACES)
        # Where there are no more places than wanted, averaging would only copy values.
        self.avgpool = nn.AdaptiveAvgPool2d(places)
        values, hidden = scaled(_PLAN[-1][0], width) * places**2, scaled(DENSE, width)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(values, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )
        initialise(self)
        output = self.classifier[-1]
        assert isinstance(output, nn.Linear)
        nn.init.normal_(output.weight, std=FIRST_LOGITS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n) of normalised images (B, C, H, W)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def _convolutions(in_channels: int, width: float, batch_norm: bool, small_images: bool) -> nn.Sequential:
    """The layers before the dense ones."""
    layers: list[nn.Module] = []
    for number, (full, kernel, pooled) in enumerate(_PLAN):
        channels = scaled(full, width)
        size, stride, padding = (kernel, 1, kernel // 2) if number else _FIRST[small_images]
        layers.append(nn.Conv2d(in_channels, channels, size, stride=stride, padding=padding))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
        if pooled:
            layers.append(nn.MaxPool2d(_POOL, _POOL_STRIDE))
        in_channels = channels
    return nn.Sequential(*layers)


def _places(image_size: int, small_images: bool) -> int:
    """Places along a side after the last pooling.

    Raises:
        ValueError: there are none.
    """
    kernel, stride, padding = _FIRST[small_images]
    side = (image_size + 2 * padding - kernel) // stride + 1
    for _, _, pooled in _PLAN:
        if pooled:
            side = (side - _POOL) // _POOL_STRIDE + 1
    if side < 1:
        raise ValueError(
            f"alexnet takes images of at least 63 pixels, or 29 with small_images, got {image_size}"
            + (" with small_images" if small_images else "")
        )
    return side
