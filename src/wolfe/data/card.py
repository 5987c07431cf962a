"""What a data set's card may say, and whether the rows are what it says: before memory is taken for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wolfe.data.source import SPLITS
from wolfe.files import read_json
from wolfe.reading.pictures import check_pixels

MOST_IMAGES = 100_000_000
MOST_CLASSES = 1_000_000
LARGEST_NAME = 500
"""Characters of the name of a class."""
_NEEDED = ("task", "class_names", "counts", "image_shape", "checksums")


def check_card(path: Path, card: dict[str, Any]) -> None:
    """Refuses a card whose entries are not what the reader of a data set takes them for.

    Args:
        path: of the card, for messages.
        card: its content.

    Raises:
        ValueError: the message names the file and the entry.
    """
    missing = [key for key in _NEEDED if key not in card]
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}")
    names, parents = card["class_names"], card.get("label_parents")
    right = {
        "task": card["task"] in ("single", "multi"),
        "class_names": is_names(names),
        "counts": _is_counts(card["counts"]),
        "image_shape": is_image_shape(card["image_shape"]),
        "checksums": isinstance(card["checksums"], dict),
        "label_parents": parents is None or (isinstance(parents, list) and _are_as_many(parents, names)),
    }
    wrong = [key for key, fine in right.items() if not fine]
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong[0]} is not what a card holds there")


def is_names(value: Any) -> bool:
    """Whether a value is a list of names of classes."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_CLASSES:
        return False
    return all(isinstance(name, str) and len(name) <= LARGEST_NAME for name in value)


def is_image_shape(value: Any) -> bool:
    """Whether a value is [C, H, W] with one or three channels and no more pixels than a picture may have."""
    if not isinstance(value, list) or len(value) != 3 or not all(type(side) is int for side in value):
        return False
    try:
        check_pixels(value[2], value[1])
    except ValueError:
        return False
    return value[0] in (1, 3)


def _are_as_many(parents: list[Any], names: Any) -> bool:
    return isinstance(names, list) and len(parents) == len(names)


def _is_counts(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= set(SPLITS):
        return False
    return all(type(count) is int and 0 <= count <= MOST_IMAGES for count in value.values())


def check_files(folder: Path, split: str, card: dict[str, Any]) -> None:
    """Refuses files of a split that the card says nothing of, and descriptions that `datasets` could not follow.

    Of a file that is on no card nobody would know whether it was changed.

    Raises:
        ValueError: the message names one.
    """
    for path in sorted((folder / "arrow" / split).rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in card["checksums"]:
            raise ValueError(f"{path} is not on the card of {folder}: build the data set again")
        if path.suffix == ".json":
            read_json(path)


def checked_rows(rows: Any, split: str, card: dict[str, Any]) -> Any:
    """The rows of a split, once they are as many and of the kinds that the card says.

    A column of no type has any number of rows in no bytes, so both are looked at before a value is.

    Args:
        rows: as `datasets` loads them.
        split: which one.
        card: the data set's.

    Raises:
        ValueError: they are not.
    """
    table = rows.data
    # Offsets that lead outside of a file are believed otherwise.
    table.validate(full=True)
    if table.num_rows != card["counts"][split]:
        raise ValueError(f"the split {split} holds {table.num_rows} images, its card says {card['counts'][split]}")
    name = "label" if card["task"] == "single" else "labels"
    schema = table.schema
    wrong = [key for key in ("image", "image_id", name) if key not in schema.names]
    wrong += [key for key in schema.names if key not in wrong and not _is_known(key, schema.field(key).type)]
    if wrong:
        raise ValueError(f"the split {split} has no column {wrong[0]} of the kind that a data set has")
    _check_labels(table.column(name), len(card["class_names"]), split)
    return rows


def _is_known(name: str, kind: pa.DataType) -> bool:
    """Whether a column is of a kind that data sets are written with."""
    if name == "image":
        parts = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
        return bool(pa.types.is_struct(kind) and pa.types.is_binary(parts.get("bytes", pa.null())))
    if name in ("image_id", "label"):
        return bool(pa.types.is_string(kind) if name == "image_id" else pa.types.is_integer(kind))
    if pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _check_labels(column: Any, classes: int, split: str) -> None:
    """Refuses labels that are missing or no index of a class."""
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    if column.null_count or values.null_count:
        raise ValueError(f"the split {split} has images without a label")
    ends = pc.min_max(values).as_py()
    if len(values) and not 0 <= ends["min"] <= ends["max"] < classes:
        raise ValueError(f"the split {split} has labels from {ends['min']} to {ends['max']} of {classes} classes")
