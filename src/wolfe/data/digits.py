"""Handwritten digits from scikit-learn: 1,797 real pictures that ship inside the package.

They are the test set of the UCI "Optical Recognition of Handwritten Digits" data (E. Alpaydin, C. Kaynak, 1998):
32 x 32 bitmaps of 43 people's digits, counted down to 8 x 8 pixels of 0 to 16.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wolfe.data.source import SPLITS, Source, Split
from wolfe.seeding import seed_for

CLASSES = 10


@cache
def raw_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All digits as the package holds them.

    Returns:
        The pictures (1797, 8, 8), uint8 from 0 to 255 (black ground, white ink), and their classes (1797,).
    """
    from sklearn.datasets import load_digits  # here, since readers of data sets need not wait for it

    bunch = load_digits()
    return np.round(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


def digit_splits(seed: int) -> dict[str, NDArray[np.int64]]:
    """Which digits belong to which split: 6:2:2, the same share of every class.

    Every data set that uses these digits takes this split, so a digit of one test set trains nothing.

    Args:
        seed: the study's seed.

    Returns:
        Sorted indices into :func:`raw_digits` for train, validation and test.
    """
    from sklearn.model_selection import train_test_split

    _, classes = raw_digits()
    state = seed_for(seed, "digits", "split") % 2**32
    rest, test = train_test_split(np.arange(len(classes)), test_size=0.2, stratify=classes, random_state=state)
    train, validation = train_test_split(rest, test_size=0.25, stratify=classes[rest], random_state=state)
    return dict(zip(SPLITS, (np.sort(train), np.sort(validation), np.sort(test)), strict=True))


def enlarged(digit: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A digit (8, 8) at (size, size) by bicubic interpolation, uint8."""
    return np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC))


def build_digits(seed: int, *, size: int = 32) -> Source:
    """The digits as grey pictures, one of ten classes each.

    Args:
        seed: the study's seed, for the split.
        size: height and width in pixels, at least 8.

    Raises:
        ValueError: the size is below 8.
    """
    if size < 8:
        raise ValueError(f"digits: size must be at least 8 pixels, got {size}")
    pictures, classes = raw_digits()
    splits = {
        name: Split(
            images=[enlarged(pictures[i], size) for i in chosen],
            labels=classes[chosen].tolist(),
            columns={"digit": chosen.tolist()},
        )
        for name, chosen in digit_splits(seed).items()
    }
    return Source(
        task="single",
        class_names=[str(digit) for digit in range(CLASSES)],
        splits=splits,
        revision=f"scikit-learn {version('scikit-learn')}",
        provenance=(
            f"The 1,797 handwritten digits of scikit-learn (UCI optical recognition of handwritten digits), "
            f"8x8 pixels enlarged to {size}x{size} by bicubic interpolation; split 6:2:2 by class."
        ),
        column_types={"digit": "int32"},
    )
