"""Many classes from few pictures: two or three real handwritten digits in reading order, one class each sequence.

There are 225 classes: the 100 ordered pairs of digits, and the 125 ordered triples of the digits 0 to 4. The digits
of a split come from the same split of the digits, so no digit of a test picture was seen in training.
"""

from __future__ import annotations

from importlib.metadata import version
from itertools import product

import numpy as np
from numpy.typing import NDArray

from wolfe.data.digits import CLASSES, digit_splits, enlarged, raw_digits
from wolfe.data.source import SPLITS, Source, Split
from wolfe.seeding import numpy_generator

TRIPLE_DIGITS = 5
SEQUENCES: tuple[tuple[int, ...], ...] = (
    *product(range(CLASSES), repeat=2),
    *product(range(TRIPLE_DIGITS), repeat=3),
)


def build_sequences(
    seed: int, *, size: int = 32, train: int = 9000, validation: int = 1125, test: int = 1125
) -> Source:
    """The sequences as grey pictures, one of 225 classes each, which are equally frequent in every split.

    Args:
        seed: the study's seed; picture k of a split depends on it, the split and k alone.
        size: height and width in pixels, even and at least 16.
        train: pictures in the training split.
        validation: pictures in the validation split.
        test: pictures in the test split.

    Raises:
        ValueError: a size or count out of range.
    """
    counts = dict(zip(SPLITS, (train, validation, test), strict=True))
    if size < 16 or size % 2:
        raise ValueError(f"sequences: size must be even and at least 16 pixels, got {size}")
    if min(counts.values()) < 1:
        raise ValueError(f"sequences: train, validation and test must be at least 1, got {counts}")
    members = digit_splits(seed)
    return Source(
        task="single",
        class_names=[" ".join(map(str, sequence)) for sequence in SEQUENCES],
        splits={name: _split(seed, name, counts[name], size, members[name]) for name in SPLITS},
        revision=f"scikit-learn {version('scikit-learn')}",
        provenance=(
            f"Two or three handwritten digits of scikit-learn on a {size}x{size} picture, read from the left and "
            f"from the top, each at a random size and place in its quarter: all {CLASSES**2} ordered pairs of digits "
            f"and all {TRIPLE_DIGITS**3} ordered triples of the digits 0 to {TRIPLE_DIGITS - 1}. Each split has its "
            "own digits."
        ),
        column_types={"digits": ["int32"]},
    )


def _split(seed: int, name: str, count: int, size: int, members: NDArray[np.int64]) -> Split:
    _, classes = raw_digits()
    of_digit = [members[classes[members] == digit] for digit in range(CLASSES)]
    images, labels, digits = [], [], []
    for index in range(count):
        label = _label(seed, name, index)
        random = numpy_generator(seed, "sequences", name, str(index))
        used = [int(random.choice(of_digit[digit])) for digit in SEQUENCES[label]]
        images.append(_draw(random, used, size))
        labels.append(label)
        digits.append(used)
    return Split(images, labels, {"digits": digits})


def _label(seed: int, name: str, index: int) -> int:
    """The class of a picture: each round of 225 pictures shows every class once, in a shuffled order."""
    turn, place = divmod(index, len(SEQUENCES))
    return int(numpy_generator(seed, "sequences", name, "round", str(turn)).permutation(len(SEQUENCES))[place])


def _draw(random: np.random.Generator, digits: list[int], size: int) -> NDArray[np.uint8]:
    """The digits on a black ground (size, size): top left, top right, bottom left, jittered in size and place."""
    pictures, _ = raw_digits()
    canvas = np.zeros((size, size), np.uint8)
    cell = size // 2
    for quarter, digit in enumerate(digits):
        side = int(random.integers(3 * cell // 4, cell + 1))
        y, x = (int(random.integers(cell - side + 1)) for _ in range(2))
        top, left = (quarter // 2) * cell + y, (quarter % 2) * cell + x
        canvas[top : top + side, left : left + side] = enlarged(pictures[digit], side)
    return canvas
