"""What a builder of a data set hands over: images, labels and their origin, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["single", "multi"]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The images of one split.

    Attributes:
        images: uint8 arrays, (H, W) for grey or (H, W, 3) for colour.
        labels: one class index an image, or one list of the labels that are on.
        columns: further columns to keep beside the images (what a picture was made from), one value an image.
    """

    images: Sequence[NDArray[np.uint8]]
    labels: Sequence[int] | Sequence[list[int]]
    columns: dict[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A whole data set in memory.

    Attributes:
        task: "single" for one class an image, "multi" for any number of labels.
        class_names: the names that labels index.
        splits: train, validation and test.
        revision: the version of what the pictures come from.
        provenance: two or three sentences for a reader.
        column_types: the Arrow type of each further column ("string", "int32"); one in a list holds lists.
        label_parents: in a hierarchy, for each label the index of the label it implies, None for a root.
    """

    task: Task
    class_names: list[str]
    splits: dict[str, Split]
    revision: str
    provenance: str
    column_types: dict[str, str | list[str]] = field(default_factory=dict)
    label_parents: tuple[int | None, ...] | None = None


def usable_cores() -> int:
    """How many cores this process may use; a workflow that gives it fewer says so in OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(said)) if said.isdigit() and int(said) else cores


Builder = Callable[..., Source]
"""A builder takes the study's seed and, by keyword, what the study's entry says beside its source."""
