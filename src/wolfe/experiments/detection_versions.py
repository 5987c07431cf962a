"""Versions of images that detectors learn from and are judged on: as they are, as 8-bit files, as JPEG files."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wolfe.metrics import eight_bit
from wolfe.models.feed import Batches

JPEG_QUALITY = 75
"""Pillow's own default; colours are stored at half the resolution at this quality (4:2:0)."""

Images = NDArray[np.float32]


def jpeg(images: Images) -> Images:
    """Images (B, C, H, W) in [0, 1], C one or three, as JPEG files of quality 75 would give them back."""
    return np.stack([_through_jpeg(image) for image in grey_levels(images)]).astype(np.float32) / np.float32(255)


def _through_jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One image (C, H, W) of grey levels through a file in memory."""
    file = io.BytesIO()
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.save(file, format="JPEG", quality=JPEG_QUALITY)
    with Image.open(file) as read:
        pixels = np.asarray(read)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def grey_levels(images: Images) -> NDArray[np.uint8]:
    """Images in [0, 1] as the bytes of an 8-bit file."""
    return np.asarray(np.rint(255 * eight_bit(images)), dtype=np.uint8)


TRANSFORMS: dict[str, Callable[[Images], Images]] = {"float": lambda images: images, "8bit": eight_bit, "jpeg": jpeg}
"""How a version may come to a detector. Adversarial images are floats, genuine ones have 256 levels: told apart by
that alone they would be told apart by nothing of interest, so detectors learn from 8-bit images and genuine images go
through the same transform."""


class Stored(Batches):
    """Images kept as bytes, with whether each is adversarial.

    Args:
        images: (N, C, H, W), grey levels.
        adversarial: (N,) of 0 and 1.

    Item `indices` (a list) is images (k, C, H, W) in [0, 1] and labels (k,), int64: 1 for adversarial.
    """

    def __init__(self, images: NDArray[np.uint8], adversarial: NDArray[np.int64]) -> None:
        self.images = torch.from_numpy(images)
        self.labels = torch.from_numpy(np.asarray(adversarial, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.images[indices].float() / 255, self.labels[indices]


def stored(genuine: list[NDArray[np.uint8]], adversarial: list[NDArray[np.uint8]]) -> Stored:
    """Genuine and adversarial images (N, C, H, W) of several sources together, the genuine ones first."""
    counts = [sum(map(len, images)) for images in (genuine, adversarial)]
    return Stored(np.concatenate([*genuine, *adversarial]), np.repeat([0, 1], counts))
