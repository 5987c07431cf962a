"""Images as pictures of 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from wolfe.metrics import eight_bit


def picture_of(image: Tensor) -> Image.Image:
    """A picture of an image (C, H, W) in [0, 1], grey for one channel, its values rounded to 8 bits."""
    values = np.rint(eight_bit(image.numpy()) * 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
