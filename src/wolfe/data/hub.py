"""Published image sets from the Hugging Face hub, or from a folder with the same files.

Only sets with one class an image. Pictures are brought to one size and stored without further loss; they are decoded
one row group at a time, so a set that is larger than the memory can be built.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wolfe.data.hub_files import Pictures, Table, open_table, split_files
from wolfe.data.hub_sets import HubSet, Part, hub_set, parts_of
from wolfe.data.source import Source, Split
from wolfe.seeding import numpy_generator


def build_hub(
    seed: int,
    *,
    collection: str,
    size: int,
    splits: Mapping[str, str],
    shorter_side: int = 0,
    data_root: str | None = None,
    revision: str = "main",
    partial: bool = False,
) -> Source:
    """A published set of images with one class each.

    Args:
        seed: the study's seed. It puts the images of each of the hub's splits in an order, which `splits` refer to:
            any part is so a random sample.
        collection: a name of `wolfe.data.hub_sets.HUB_SETS`.
        size: height and width in pixels.
        splits: what of the hub's splits train, validation and test hold, as "validation" or "validation[:2500]".
        shorter_side: length that the shorter side is brought to before a square of `size` is cut from the middle; 0
            for `size`.
        data_root: folder with the parquet files; None to fetch them.
        revision: which state of the hub's repository to fetch.
        partial: the files in `data_root` are some of the published images.

    Raises:
        ValueError: an unknown collection or split, a size out of range, images in two splits, or files that are not
            those that were published.
        FileNotFoundError: the files are missing and cannot be fetched; the message says what to do.
    """
    known, parts, side = hub_set(collection), parts_of(collection, splits), shorter_side or size
    if size < 8 or side < size:
        raise ValueError(f"hub: size must be at least 8 and shorter_side at least size, got {size} and {shorter_side}")
    tables, said = {}, {}
    for name in dict.fromkeys(part.split for part in parts.values()):
        files, said[name] = split_files(known, name, data_root, revision)
        tables[name] = open_table(known, name, files, partial)
    class_names = _same_names(known, tables)
    return Source(
        task="single",
        class_names=class_names,
        splits={
            name: _split(seed, collection, known, part, tables[part.split], size, side) for name, part in parts.items()
        },
        revision="; ".join(f"{known.repository} {name}: {text}" for name, text in said.items()),
        provenance=(
            f"{known.title}: {', '.join(f'{name} holds {splits[name]}' for name in parts)}, in an order drawn by the "
            f"seed. The shorter side is brought to {side} pixels (bilinear) and the middle {size}x{size} are kept."
            + (" The files hold some of the published images." if partial else "")
        ),
        column_types={"hub_split": "string", "hub_row": "int32"},
    )


def _same_names(known: HubSet, tables: Mapping[str, Table]) -> list[str]:
    first, *others = tables.values()
    if any(table.class_names != first.class_names for table in others):
        raise ValueError(f"hub: the splits of {known.repository} name their classes differently")
    return first.class_names


def _split(seed: int, collection: str, known: HubSet, part: Part, table: Table, size: int, side: int) -> Split:
    """The images of one split, in the order of the files."""
    rows = _drawn(seed, collection, part, len(table.labels))
    return Split(
        images=Pictures(table, rows, known.channels, size, side),
        labels=table.labels[rows].tolist(),
        columns={"hub_split": [part.split] * len(rows), "hub_row": rows.tolist()},
    )


def _drawn(seed: int, collection: str, part: Part, rows: int) -> NDArray[np.int64]:
    """The rows of a part, rising.

    Raises:
        ValueError: there are none.
    """
    order = numpy_generator(seed, "hub", collection, part.split).permutation(rows)
    chosen: NDArray[np.int64] = np.sort(order[part.start : part.stop])
    if not len(chosen):
        raise ValueError(f"hub: {part.split} has {rows} images here, so none from number {part.start} on")
    return chosen
