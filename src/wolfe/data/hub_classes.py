"""Which classes of a published set are kept, and how many images of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wolfe.data.hub_sets import HubSet


def check_choice(known: HubSet, classes: int | None, per_class: int | None) -> None:
    """Refuses a choice of classes that a data set does not allow.

    Raises:
        ValueError: the message says what would be right.
    """
    if known.task == "multi" and (classes is not None or per_class is not None):
        raise ValueError(f"hub: classes and per_class need one class an image; {known.title} has several labels")
    if classes is not None and not 2 <= classes <= known.classes:
        raise ValueError(f"hub: classes must be from 2 to {known.classes}, got {classes}")
    if per_class is not None and per_class < 1:
        raise ValueError(f"hub: per_class must be at least 1, got {per_class}")


def most_populated(known: HubSet, classes: int | None, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes with the most training images, rising; of two with as many the first comes before the second.

    Args:
        known: the data set. Where its training images of each class were published, those counts decide.
        classes: how many; None for all.
        labels: the class of each training image (N,).
    """
    if classes is None:
        return np.arange(known.classes)
    counts = known.class_counts or np.bincount(labels, minlength=known.classes)
    return np.sort(np.argsort(-np.asarray(counts), kind="stable")[:classes])


def first_of_each(labels: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which images are among the first `most` of their class.

    Args:
        labels: the class of each image (N,), in the order that decides.
        most: at least 1.
    """
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    begins = np.searchsorted(ordered, ordered, side="left")
    chosen = np.empty(len(labels), bool)
    chosen[order] = np.arange(len(labels)) - begins < most
    return chosen
