"""Random changes of training images, drawn from torch's global generator, on the images' device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Random rotation, scale and shift of each image, with the edge's pixels continued outwards.

    Attributes:
        rotate: largest angle in degrees, either way.
        scale: largest relative change of size, either way.
        shift: largest shift in pixels, in both directions.
    """

    rotate: float = 0.0
    scale: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: a negative value, or a scale of 1 or more.
        """
        if min(self.rotate, self.scale, self.shift) < 0 or self.scale >= 1:
            raise ValueError(f"augment: rotate, scale and shift must not be negative, scale below 1: got {self}")

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to changed images of the same shape."""
        count, _, height, width = images.shape
        draw = 2 * torch.rand(4, count, device=images.device) - 1
        angle = draw[0] * math.radians(self.rotate)
        size = 1 + draw[1] * self.scale
        shift_x, shift_y = draw[2] * 2 * self.shift / width, draw[3] * 2 * self.shift / height
        cosine, sine = angle.cos() / size, angle.sin() / size
        rows = torch.stack([cosine, -sine, shift_x, sine, cosine, shift_y], dim=1).view(count, 2, 3)
        grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
