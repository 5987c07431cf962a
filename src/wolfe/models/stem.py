"""A convolutional stem for transformers, in the place of the linear embedding of patches.

T. Xiao, M. Singh, E. Mintun, T. Darrell, P. Dollár, R. Girshick: "Early Convolutions Help Transformers See Better",
NeurIPS 2021. Without it small transformers need far more pictures and passes than an embedded study has.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn


class ConvolutionalStem(nn.Module):
    """Convolutions of 3x3 pixels, each with batch normalisation and ReLU, then one of 1x1 to the embedding's width.

    Args:
        in_channels: channels of an image.
        layers: output channels and stride of each 3x3 convolution.
        width: values of a token.
        channels_last: give tokens as (B, H, W, width), as Swin takes them, instead of (B, H * W, width) as ViT does.
    """

    def __init__(
        self, in_channels: int, layers: Sequence[Sequence[int]], width: int, channels_last: bool = False
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for channels, stride in layers:
            parts += [
                nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            in_channels = channels
        self.layers = nn.Sequential(*parts, nn.Conv2d(in_channels, width, 1))
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of images (B, C, H, W)."""
        tokens: Tensor = self.layers(x)
        return tokens.permute(0, 2, 3, 1).contiguous() if self.channels_last else tokens.flatten(2).transpose(1, 2)


def give_stem(network: nn.Module, in_channels: int, layers: Sequence[Sequence[int]]) -> None:
    """Puts a convolutional stem in the place of the patch embedding of one of timm's ViT or Swin networks.

    Args:
        network: changed in place.
        in_channels: channels of an image.
        layers: output channels and stride of each convolution; the strides multiply to the network's patch size.

    Raises:
        ValueError: the network has no patch embedding, or the strides do not fit it.
    """
    patches = getattr(network, "patch_embed", None)
    projection = getattr(patches, "proj", None)
    if not isinstance(projection, nn.Conv2d):
        raise ValueError(f"stem: {type(network).__name__} has no embedding of patches that a stem could replace")
    patch, strides = projection.stride[0], prod(stride for _, stride in layers)
    if strides != patch:
        raise ValueError(f"stem: the strides must multiply to the patch size, {patch}, not to {strides}")
    channels_last = str(getattr(patches, "output_fmt", "")).endswith("NHWC")
    network.patch_embed = ConvolutionalStem(in_channels, layers, projection.out_channels, channels_last)
