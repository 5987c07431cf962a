"""Splits of images for detectors: no image, in whatever version, stands in two parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from wolfe.seeding import seed_for

PARTS = ("train", "validation", "test")
FEWEST = 4
"""Images that each part must hold: with fewer a share says nothing."""

Indices = NDArray[np.int64]


def part_sizes(images: int, test_share: float, validation_share: float) -> dict[str, int]:
    """How many of some images go to each part.

    Args:
        images: how many there are.
        test_share: share of the test part, in (0, 1).
        validation_share: share of the validation part; both together leave something to learn from.

    Raises:
        ValueError: a share is out of range, or a part would hold too few images.
    """
    if min(test_share, validation_share) <= 0 or test_share + validation_share >= 1:
        raise ValueError(
            "a detector's test_share and validation_share must be above 0 and together below 1, got "
            f"{test_share} and {validation_share}"
        )
    sizes = {"validation": round(validation_share * images), "test": round(test_share * images)}
    sizes = {"train": images - sum(sizes.values()), **sizes}
    smallest = min(sizes, key=lambda part: sizes[part])
    if sizes[smallest] < FEWEST:
        needed = int(np.ceil(FEWEST / min(test_share, validation_share, 1 - test_share - validation_share)))
        raise ValueError(
            f"too few images for a detector's split: {images} images leave {sizes[smallest]} for the {smallest} part, "
            f"which needs {FEWEST}; attack at least {needed} images"
        )
    return sizes


def split_images(
    image_ids: Sequence[str],
    labels: Sequence[int],
    tested: Collection[str],
    test_share: float,
    validation_share: float,
    seed: int,
) -> pd.DataFrame:
    """Deals attacked images out to the parts, the same share of each class to each as far as that goes.

    Args:
        image_ids: names of the images, all different.
        labels: their true classes.
        tested: names of images that attacks are tested on which nothing is learnt from: these come to the test part,
            in exchange for others of their class where it has any.
        test_share: share of the test part, in (0, 1).
        validation_share: share of the validation part.
        seed: of the draw.

    Returns:
        One line an image, in the given order: `image_id`, `true_label` and `split`.

    Raises:
        ValueError: a part would hold too few images, or more images must come to the test part than it holds.
    """
    sizes = part_sizes(len(image_ids), test_share, validation_share)
    names, classes = np.asarray(image_ids, dtype=object), np.asarray(labels)
    first = np.isin(names, sorted(tested))
    if first.sum() > sizes["test"]:
        raise ValueError(
            f"{first.sum()} images are attacked only to be tested on, and the test part holds {sizes['test']} of "
            f"{len(names)}: raise test_share to {first.sum() / len(names):.2f} or attack fewer images there"
        )
    split = np.empty(len(names), dtype=object)
    for part, indices in deal(classes, sizes, seed).items():
        split[indices] = part
    _exchange(split, classes, first)
    return pd.DataFrame({"image_id": names, "true_label": classes, "split": split})


def _exchange(split: NDArray[np.object_], classes: NDArray[np.int64], first: NDArray[np.bool_]) -> None:
    """Brings items (N,) that must be tested on to the test part, each for one of its class where there is one."""
    for place in np.flatnonzero(first & (split != "test")):
        free = np.flatnonzero((split == "test") & ~first)
        alike = free[classes[free] == classes[place]]
        other = alike[0] if len(alike) else free[0]
        split[place], split[other] = split[other], split[place]


def deal(classes: NDArray[np.int64], sizes: dict[str, int], seed: int) -> dict[str, Indices]:
    """Deals indices out to parts, stratified by class.

    Args:
        classes: of the items (N,).
        sizes: how many items each part gets; N in all.
        seed: of the draw.

    Returns:
        Each part's indices in ascending order; together each of 0 to N - 1 once.
    """
    left, dealt = np.arange(len(classes)), {}
    for part in list(sizes)[1:]:
        taken = _stratified(classes[left], sizes[part], seed_for(seed, "detector split", part) % 2**32)
        dealt[part] = left[taken]
        left = np.delete(left, taken)
    return {next(iter(sizes)): left, **dealt}


def _stratified(classes: NDArray[np.int64], count: int, seed: int) -> Indices:
    """Indices of `count` of some items, in ascending order, each class in its share."""
    if count in (0, len(classes)):
        return np.arange(count)
    strata = _strata(classes, min(count, len(classes) - count))
    _, chosen = train_test_split(np.arange(len(classes)), test_size=count, stratify=strata, random_state=seed)
    return np.sort(chosen)


def _strata(classes: NDArray[np.int64], smallest: int) -> Indices:
    """Strata (N,) for a split whose smaller side has `smallest` items: the classes, the rarest of them together.

    A split can keep the shares of strata only if each has two items and no side has fewer items than there are strata.
    """
    known, inverse, counts = np.unique(classes, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    kept = min(int((counts >= 2).sum()), smallest)
    if kept < len(known):
        # The others form one stratum; a single item of it joins the rarest of the classes that are kept.
        kept -= int(kept == smallest or counts[order[kept:]].sum() < 2)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return np.asarray(np.minimum(rank, kept)[inverse], dtype=np.int64)


def extra_sizes(adversarial: dict[str, int], genuine: dict[str, int], available: int) -> dict[str, int]:
    """How many extra genuine images each part gets, so that both classes are as many.

    Args:
        adversarial: adversarial images of each part.
        genuine: genuine ones.
        available: how many extra ones there are; where they are too few each part gets its share.
    """
    wanted = {part: max(0, adversarial[part] - genuine[part]) for part in adversarial}
    scale = min(1.0, available / max(1, sum(wanted.values())))
    return {part: int(scale * count) for part, count in wanted.items()}
