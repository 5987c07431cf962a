"""Published image sets from the Hugging Face hub, or from a folder with the same files.

Pictures are brought to one size and stored without further loss; they are decoded some at a time, so a set that is
larger than the memory can be built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wolfe.data.hub_classes import check_choice, first_of_each, most_populated
from wolfe.data.hub_open import open_split_table
from wolfe.data.hub_parts import Part, check_disjoint, check_files, check_size, parts_of
from wolfe.data.hub_pictures import Pictures, Shape
from wolfe.data.hub_sets import HubSet, hub_set
from wolfe.data.hub_table import Table, joined, names_of
from wolfe.data.source import Source, Split
from wolfe.seeding import numpy_generator


def build_hub(
    seed: int,
    *,
    collection: str,
    size: int,
    splits: Mapping[str, str],
    shorter_side: int = 0,
    stretch: bool = False,
    pad: int = 0,
    classes: int | None = None,
    per_class: int | None = None,
    data_root: str | None = None,
    revision: str | None = None,
    partial: bool = False,
    files: int | None = None,
) -> Source:
    """A published set of images, each with one class or with any number of labels.

    Args:
        seed: the study's seed. It puts the images of each of the hub's splits in an order, which `splits` refer to:
            any part is so a random sample.
        collection: a name of `wolfe.data.hub_sets.HUB_SETS`.
        size: height and width in pixels.
        splits: what of the hub's splits train, validation and test hold, as "validation", "validation[:2500]" or
            "train+validation[60%:80%]".
        shorter_side: length that the shorter side is brought to before a square of `size` is cut from the middle; 0
            for `size` without the padding.
        stretch: bring the whole picture to a square, whatever its shape, so that nothing with a label is cut off.
        pad: width of the black border that is put around a picture; it is part of `size`.
        classes: how many classes are kept, those with the most training images; None for all. Their numbers follow the
            order they had, and `splits` refer to their images alone.
        per_class: how many training images of a class are kept at most, the first in the order; None for all.
        data_root: folder with the set; None to fetch it.
        revision: which state of the hub's repository to fetch; None for the one that is known to be right.
        partial: the files hold some of the published images.
        files: how many parquet files of each of the hub's splits are used, at even distances; None for all. What has
            the most training images is then counted in these, and only these are fetched.

    Raises:
        ValueError: an unknown collection or split, a size or number out of range, images in two splits, or files that
            are not those that were published.
        FileNotFoundError: the files are missing and cannot be fetched; the message says what to do.
    """
    known, parts = hub_set(collection), parts_of(collection, splits)
    check_size(size, shorter_side, pad, stretch)
    check_choice(known, classes, per_class)
    check_files(known, data_root, revision, files)
    inner = size - 2 * pad
    shape = Shape(known.channels, inner, shorter_side or inner, pad, stretch, known.side)
    needed = dict.fromkeys(split for part in parts.values() for split in part.splits)
    opened = {split: open_split_table(known, split, data_root, revision, partial, files) for split in needed}
    tables = {part.base: joined([opened[split][0] for split in part.splits]) for part in parts.values()}
    kept = most_populated(known, classes, tables[parts["train"].base].labels)
    sample = _Sample(seed, collection, known, kept, per_class)
    check_disjoint(parts, {base: len(sample.rows(table)) for base, table in tables.items()})
    names = names_of(known, [table for table, _ in opened.values()])
    held = ", ".join(f"{name} holds {splits[name]}" for name in parts)
    done = _said(known, shape, classes, per_class, partial or files is not None)
    return Source(
        task=known.task,
        class_names=[names[label] for label in kept],
        splits={name: sample.split(name, part, tables[part.base], shape) for name, part in parts.items()},
        revision="; ".join(f"{known.repository} {split}: {said}" for split, (_, said) in opened.items()),
        provenance=" ".join([f"{known.title}: {held}, in an order drawn by the seed.", *done]),
        column_types={"hub_split": "string", "hub_row": "int32"},
    )


def _said(known: HubSet, shape: Shape, classes: int | None, per_class: int | None, partial: bool) -> list[str]:
    """Sentences on what was done to the set."""
    whole = shape.size + 2 * shape.pad
    sentences = {
        f"Pictures are brought to {shape.size}x{shape.size} pixels (bilinear), whatever their shape.": shape.stretch,
        f"The shorter side is brought to {shape.shorter_side} pixels (bilinear) and the middle "
        f"{shape.size}x{shape.size} are kept.": not shape.stretch,
        f"A black border of {shape.pad} pixels makes that {whole}x{whole}.": shape.pad > 0,
        f"Kept are the {classes} of {known.classes} classes with the most training images.": classes is not None,
        f"Of each class at most {per_class} training images are kept.": per_class is not None,
        "The files hold some of the published images.": partial,
    }
    return [sentence for sentence, true in sentences.items() if true]


@dataclass(frozen=True)
class _Sample:
    """Which images of a set are used.

    Attributes:
        seed: puts each series of images in an order.
        collection: the set's name in studies.
        known: the set.
        kept: the classes whose images are used, rising.
        per_class: training images of a class at most; None for all.
    """

    seed: int
    collection: str
    known: HubSet
    kept: NDArray[np.int64]
    per_class: int | None

    def rows(self, table: Table) -> NDArray[np.int64]:
        """The rows of a series that may be used, rising."""
        if len(self.kept) == self.known.classes:
            return np.arange(len(table.labels))
        return np.flatnonzero(np.isin(table.labels, self.kept))

    def split(self, name: str, part: Part, table: Table, shape: Shape) -> Split:
        """The images of train, validation or test, in the order of the files.

        Raises:
            ValueError: there are none.
        """
        rows = self._drawn(part, table)
        if name == "train" and self.per_class is not None:
            rows = rows[first_of_each(table.labels[rows], self.per_class)]
        rows = np.sort(rows)
        hub_split, hub_row = table.places(rows)
        return Split(
            images=Pictures(table, rows, shape),
            labels=self._labels(table.labels[rows]),
            columns={"hub_split": hub_split, "hub_row": hub_row},
        )

    def _drawn(self, part: Part, table: Table) -> NDArray[np.int64]:
        """The rows of a part in the order that the seed gives."""
        rows = self.rows(table)
        order = numpy_generator(self.seed, "hub", self.collection, part.base).permutation(len(rows))
        start, stop = part.ends(len(rows))
        if start == stop:
            raise ValueError(f"hub: {part.base} has {len(rows)} images here, so none from number {part.start} on")
        return rows[order[start:stop]]

    def _labels(self, labels: NDArray[np.int64]) -> list[int] | list[list[int]]:
        if self.known.task == "multi":
            return [np.flatnonzero(row).tolist() for row in labels]
        return np.searchsorted(self.kept, labels).tolist()
