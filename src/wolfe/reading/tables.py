"""Parquet files of records: what they would grow to is checked before they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wolfe.reading.regular import regular_file

MOST_ROWS = 50_000_000
"""Rows of a file; the longest trace of the published scale has some millions."""
MOST_VALUES = 500_000_000
"""Values in the lists of all columns that are read."""
MOST_COLUMNS = 500
LARGEST_TABLE = 1 << 32
"""Bytes of all columns that are read, without what their texts and lists hold; the records of softmax at the published
scale, 7.5 million rows of 26 columns, have 1.8 GiB. Arrow and pandas hold them twice for a while."""
LARGEST_TEXT = 1 << 32
"""Bytes that the text of all columns that are read has once each row holds its own."""
# Bytes that a row takes in pandas: a number that may be missing; where a text begins and ends; an array of its own.
_NUMBER, _TEXT, _LIST = 8, 16, 128
_LARGEST_FOOTER = 16 << 20
# Rows of lists that are counted together.
_TOGETHER = 1024


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A parquet file of plain columns as a frame.

    Args:
        path: of the file.
        columns: those to read; None for all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, would grow beyond the bounds of this module, has columns of another kind than
            numbers, text and lists of numbers, or lacks one of the columns; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with opened_table(path) as file:
            _check_columns(path, file, columns)
            return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except MemoryError:
        raise
    except Exception as error:
        # Arrow and pandas fail by whatever comes first in a damaged file.
        raise ValueError(f"{path} is no readable parquet file ({_said(error)})") from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def opened_table(path: Path) -> pq.ParquetFile:
    """A parquet file, opened, once its footer says that its size is within the bounds of this module.

    Raises:
        ValueError: it is not.
        pyarrow.ArrowException: it is damaged.
        OSError: it cannot be read.
    """
    regular_file(path)
    file = pq.ParquetFile(path, thrift_string_size_limit=_LARGEST_FOOTER, thrift_container_size_limit=_LARGEST_FOOTER)
    try:
        _check_size(file.metadata)
    except ValueError:
        file.close()
        raise
    return file


def _check_size(metadata: Any) -> None:
    """Refuses more rows, columns and values than there can be."""
    if not 0 <= metadata.num_rows <= MOST_ROWS:
        raise ValueError(f"{metadata.num_rows} rows are more than {MOST_ROWS}")
    if metadata.num_columns > MOST_COLUMNS:
        raise ValueError(f"{metadata.num_columns} columns are more than {MOST_COLUMNS}")
    # pyarrow ends the whole process where the footer's entry for a column is damaged and somebody looks at it alone.
    rows = sum(metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    if rows != metadata.num_rows:
        raise ValueError(f"its parts have {rows} rows together, it says {metadata.num_rows}")


def _check_columns(path: Path, file: pq.ParquetFile, columns: Sequence[str] | None) -> None:
    """Refuses missing columns, columns of other kinds, and text that is long in every row."""
    schema = file.schema_arrow
    for name in columns or ():
        if name not in schema.names:
            raise ValueError(f"it has no column {name!r}")
    kinds = {name: schema.field(name).type for name in _read(schema, columns)}
    for name, kind in kinds.items():
        if not _is_plain(kind):
            raise ValueError(f"column {name} holds {kind}")
    _check_bytes(file.metadata.num_rows, list(kinds.values()))
    _check_text(path, file.metadata.num_rows, [name for name, kind in kinds.items() if _is_text(kind)])
    _check_lists(file, [name for name, kind in kinds.items() if _is_list(kind)])


def _read(schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    """The columns that pandas reads where it is asked for some: also those that the file calls its index."""
    if columns is None:
        return list(schema.names)
    index = (schema.pandas_metadata or {}).get("index_columns", ())
    return [*columns, *(name for name in schema.names if name in index and name not in columns)]


def _check_bytes(rows: int, kinds: Sequence[pa.DataType]) -> None:
    """A value that stands in every row needs no room in a file either: counts what the columns take together."""
    row = sum(_LIST if _is_list(kind) else _TEXT if _is_text(kind) else _NUMBER for kind in kinds)
    if row * rows > LARGEST_TABLE:
        raise ValueError(f"{rows} rows of {row} bytes are more than {LARGEST_TABLE} bytes")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, text or nothing, or lists of numbers."""
    if _is_list(kind):
        kind = kind.value_type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(number or _is_text(kind) or pa.types.is_null(kind))


def _check_text(path: Path, rows: int, names: Sequence[str]) -> None:
    """A text that stands once in a file can stand in each of its rows: read as it is kept, that costs nothing."""
    together = 0
    for name in names:
        longest = max(_longest(path, name), default=0)
        together += longest * rows
        if together > LARGEST_TEXT:
            raise ValueError(f"column {name} would have {longest} bytes in each of {rows} rows")


def _longest(path: Path, name: str) -> Iterator[int]:
    """The bytes of the longest text of each part of a column."""
    with pq.ParquetFile(path, read_dictionary=[name]) as kept:
        for part in kept.iter_batches(columns=[name]):
            column = part.column(0)
            words = column.dictionary if pa.types.is_dictionary(column.type) else column
            words.validate(full=True)  # arrow takes what is no UTF-8 for text, and fails where it is used
            yield pc.max(pc.binary_length(words)).as_py() or 0


def _check_lists(file: pq.ParquetFile, names: Sequence[str]) -> None:
    """Lists of one value again and again need no room in a file: counts them some rows at a time."""
    values = 0
    for name in names:
        for part in file.iter_batches(_TOGETHER, columns=[name]):
            values += len(part.column(0).flatten())
            if values > MOST_VALUES:
                raise ValueError(f"the lists up to column {name} hold more than {MOST_VALUES} values")
