"""Scenes: one to four real handwritten digits, in two to four colours, on real photographs.

With two colours twenty labels, as many as VOC has: ten digits times two colours. A label is on if that digit stands
in that colour; a hierarchy adds labels that follow from these. With a single digit a picture the labels are classes.
The digits of a split come from the same split of the digits, the ground from the split's own band of each
photograph, so nothing seen in the test pictures was seen in training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from wolfe.data.digits import CLASSES, digit_splits, enlarged, raw_digits
from wolfe.data.photographs import PHOTOGRAPHS, band, photograph, revision
from wolfe.data.scene_labels import COLOURS, SceneLabels
from wolfe.data.source import SPLITS, Source, Split
from wolfe.seeding import numpy_generator

MOST_DIGITS = 4
_SEAM = 0.6
_WIDEST_CROP = 2.0

Box = tuple[int, int, int, int]


def build_scenes(
    seed: int,
    *,
    size: int = 64,
    colours: int = 2,
    hierarchy: bool = False,
    single_label: bool = False,
    train: int = 4800,
    validation: int = 1000,
    test: int = 1000,
) -> Source:
    """The scenes as RGB pictures with ten labels a colour, or thirteen in a hierarchy; or with ten classes a colour.

    Args:
        seed: the study's seed; picture k of a split depends on it, the split and k alone.
        size: height and width in pixels, from 48 to 72 (the narrowest band of a photograph).
        colours: how many colours the digits have, from 2 to 4.
        hierarchy: also label each colour, and its even and its odd digits; the pictures stay the same.
        single_label: one digit a picture, twice as large, whose label is its class.
        train: pictures in the training split.
        validation: pictures in the validation split.
        test: pictures in the test split.

    Raises:
        ValueError: a size, count or number of colours out of range, or a hierarchy of classes.
    """
    counts = dict(zip(SPLITS, (train, validation, test), strict=True))
    if not 48 <= size <= 72:
        raise ValueError(f"scenes: size must be from 48 to 72 pixels, got {size}")
    if not 2 <= colours <= len(COLOURS):
        raise ValueError(f"scenes: colours must be from 2 to {len(COLOURS)}, got {colours}")
    if min(counts.values()) < 1:
        raise ValueError(f"scenes: train, validation and test must be at least 1, got {counts}")
    if single_label and hierarchy:
        raise ValueError("scenes: single_label gives each picture one class, hierarchy several labels: choose one")
    members, most = digit_splits(seed), 1 if single_label else MOST_DIGITS
    labels = SceneLabels(colours=colours, hierarchy=hierarchy)
    *others, last = labels.colour_names
    implied = " Each colour, and its even and its odd digits, are labels too." if hierarchy else ""
    return Source(
        task="single" if single_label else "multi",
        class_names=labels.names,
        splits={name: _split(seed, name, counts[name], size, members[name], labels, most) for name in SPLITS},
        revision=f"{revision()}, digits of scikit-learn",
        provenance=(
            f"Crops of {len(PHOTOGRAPHS)} photographs that ship inside scikit-image, scaled to {size}x{size}, "
            f"with {'one handwritten digit' if single_label else f'one to {MOST_DIGITS} handwritten digits'} of "
            f"scikit-learn in {', '.join(others)} or {last}. Each "
            "split has its own digits and its own vertical band of every photograph (60, 20 and 20 % of the width)."
            f"{implied}"
        ),
        column_types={
            "photograph": "string",
            "crop": ["int32"],
            "digits": ["int32"],
        },
        label_parents=labels.parents,
    )


def _split(
    seed: int, name: str, count: int, size: int, members: NDArray[np.int64], scene_labels: SceneLabels, most: int
) -> Split:
    """The pictures of a split, with one to `most` digits each; where that is one, its label is the class."""
    images, labels, photographs, crops, digits = [], [], [], [], []
    for index in range(count):
        random = numpy_generator(seed, "scenes", name, str(index))
        chosen = PHOTOGRAPHS[random.integers(len(PHOTOGRAPHS))]
        crop = _crop(random, band(chosen, name), size)
        ground = photograph(chosen).resize((size, size), Image.Resampling.BICUBIC, box=crop, reducing_gap=2.0)
        shown = random.choice(scene_labels.things, size=random.integers(1, most + 1), replace=False)
        things = sorted(shown.tolist())
        used = [_pick(random, members, thing % CLASSES) for thing in things]
        images.append(_draw(random, np.asarray(ground), things, used, cells=1 if most == 1 else 2))
        labels.append(things[0] if most == 1 else scene_labels.of(things))
        photographs.append(chosen)
        crops.append(list(crop))
        digits.append(used)
    return Split(images, labels, {"photograph": photographs, "crop": crops, "digits": digits})


def _crop(random: np.random.Generator, region: Box, size: int) -> Box:
    """A square of 1 to 2 times `size` pixels inside a region."""
    left, top, right, bottom = region
    widest = min(right - left, bottom - top, int(_WIDEST_CROP * size))
    side = int(random.integers(size, widest + 1))
    x = int(random.integers(left, right - side + 1))
    y = int(random.integers(top, bottom - side + 1))
    return x, y, x + side, y + side


def _pick(random: np.random.Generator, members: NDArray[np.int64], digit: int) -> int:
    """One of the split's pictures of a digit, as an index into the digits."""
    _, classes = raw_digits()
    return int(random.choice(members[classes[members] == digit]))


def _draw(
    random: np.random.Generator, ground: NDArray[np.uint8], things: list[int], digits: list[int], cells: int
) -> NDArray[np.uint8]:
    """The digits on the ground (H, W, 3), each in a cell of its own, of `cells` a side, at a random size and place."""
    canvas = ground.astype(np.float32)
    cell = ground.shape[0] // cells
    chosen = random.permutation(cells**2)[: len(things)]
    for thing, digit, number in zip(things, digits, chosen.tolist(), strict=True):
        side = int(random.integers(5 * cell // 8, 7 * cell // 8 + 1))
        y, x = (int(random.integers(cell - side + 1)) for _ in range(2))
        colour = list(COLOURS.values())[thing // CLASSES]
        top, left = (number // cells) * cell, (number % cells) * cell
        _blend(canvas[top : top + cell, left : left + cell], digit, side, (y, x), colour)
    return np.round(canvas).clip(0, 255).astype(np.uint8)


def _blend(
    part: NDArray[np.float32], digit: int, side: int, place: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    """Paints one digit with a dark soft seam onto a part (h, w, 3) of the canvas, in place."""
    pictures, _ = raw_digits()
    ink = np.zeros(part.shape[:2], np.uint8)
    y, x = place
    ink[y : y + side, x : x + side] = enlarged(pictures[digit], side)
    wide = Image.fromarray(ink).filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(1.0))
    seam = _SEAM * np.asarray(wide, np.float32)[..., None] / 255
    cover = np.minimum(1.25 * ink.astype(np.float32) / 255, 1.0)[..., None]
    part *= 1 - seam
    part *= 1 - cover
    part += cover * np.asarray(colour, np.float32)
