"""Labels and their names as parquet files hold them: a class, a list of labels, or boxes with a category each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wolfe.data.hub_sets import HubSet
from wolfe.reading.text import parse_json

# The parts of a box that say what is in it.
_CATEGORIES = ("category", "label", "category_id")


def column_of(path: Path, there: Sequence[str], names: Sequence[str]) -> str:
    """The name that a column has in a file.

    Raises:
        ValueError: it is not there.
    """
    for name in names:
        if name in there:
            return name
    raise ValueError(f"hub: {path} has no column {' or '.join(names)}; it has {', '.join(there)}")


def read_labels(known: HubSet, split: str, path: Path, column: str) -> NDArray[Any]:
    """The labels of all rows of a file.

    Args:
        known: the data set.
        split: its name on the hub, for messages.
        path: of the parquet file.
        column: of labels.

    Returns:
        Classes, int64 (N,); or the labels that are on, uint8 (N, n) of 0 and 1.

    Raises:
        ValueError: a value is none of the set's labels, or the column is of another kind.
    """
    import pyarrow as pa

    content = _whole(path, column)
    wrong = f"hub: {split} of {known.repository} has rows without a label from 0 to {known.classes - 1} ({path})"
    if known.task == "single":
        if not pa.types.is_integer(content.type):
            raise ValueError(f"hub: column {column} of {path} holds {content.type}, not one whole number an image")
        labels = np.asarray(content.fill_null(-1), np.int64)
        rows = np.arange(len(labels))
    else:
        labels, rows = _listed(path, column, content)
    if len(labels) and not 0 <= labels.min() <= labels.max() < known.classes:
        raise ValueError(wrong)
    if known.task == "single":
        return labels
    table = np.zeros((len(content), known.classes), np.uint8)
    table[rows, labels] = 1
    return table


def _whole(path: Path, column: str) -> Any:
    """A column of all rows of a file."""
    import pyarrow as pa

    from wolfe.reading.tables import opened_table

    try:
        with opened_table(path) as file:
            return file.read([column]).column(column).combine_chunks()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(f"hub: column {column} of {path} cannot be read ({error}): fetch the file again") from error


def _listed(path: Path, column: str, content: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All labels of lists, or all categories of boxes, and the row of each; a label may come several times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(content.type):
        content = _category(path, column, content)
    if not (pa.types.is_list(content.type) or pa.types.is_large_list(content.type)):
        raise ValueError(f"hub: column {column} of {path} holds {content.type}, not a list of labels an image")
    rows, values = np.asarray(pc.list_parent_indices(content), np.int64), pc.list_flatten(content)
    if pa.types.is_struct(values.type):
        values = _category(path, column, values)
    if not pa.types.is_integer(values.type):
        raise ValueError(f"hub: column {column} of {path} holds lists of {values.type}, not of whole numbers")
    return np.asarray(values.fill_null(-1), np.int64), rows


def _category(path: Path, column: str, boxes: Any) -> Any:
    """The part of boxes that says what is in them."""
    import pyarrow.compute as pc

    there = [field.name for field in boxes.type]
    for name in _CATEGORIES:
        if name in there:
            return pc.struct_field(boxes, name)
    raise ValueError(f"hub: column {column} of {path} has no {' or '.join(_CATEGORIES)}; it has {', '.join(there)}")


def read_names(known: HubSet, path: Path, schema: Any, column: str) -> list[str] | None:
    """The names that `datasets` keeps in a file's metadata, or None where the set's files need not have them.

    Args:
        known: the data set.
        path: of the parquet file, for messages.
        schema: its Arrow schema.
        column: of labels.

    Raises:
        ValueError: names are missing or are not those of so many classes.
    """
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"].decode())["info"]["features"]
        names = _named(features[column])
    except (KeyError, TypeError, ValueError):
        names = None
    if names is None:
        if not known.named:
            return None
        raise ValueError(f"hub: {path} does not say what its classes mean (a ClassLabel in its metadata)")
    if len(names) != known.classes or len(set(names)) != known.classes:
        raise ValueError(f"hub: {path} names {len(set(names))} classes; {known.repository} has {known.classes}")
    check_names(known, str(path), names)
    return names


def check_names(known: HubSet, where: str, names: Sequence[str]) -> None:
    """Refuses the classes of another set where those of this one are fixed; spelling may differ in case and blanks.

    Raises:
        ValueError: the message names the first that differs.
    """
    for number, (name, right) in enumerate(zip(names, known.class_names, strict=False)):
        if _letters(name) != _letters(right):
            raise ValueError(
                f"hub: {where} calls class {number} {name!r}, {known.title} {right!r}: these are no files of it"
            )


def _letters(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign.isalnum())


def _named(feature: Any) -> list[str] | None:
    """The names of the ClassLabel that stands somewhere inside a feature."""
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature["names"]]
    inner = feature.values() if isinstance(feature, dict) else feature if isinstance(feature, list) else ()
    found = (_named(item) for item in inner)
    return next((names for names in found if names is not None), None)
