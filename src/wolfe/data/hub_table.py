"""The images of a published set's splits: labels in memory, pictures where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wolfe.data.hub_sets import HubSet

LARGEST_GROUP = 1 << 33
"""Bytes of the pictures that are read together; those of the published sets have a tenth of that."""


class Piece(Protocol):
    """Some rows whose pictures are read together."""

    def contents(self, places: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        """The encoded pictures at some places, each with words that say where it is."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of a parquet file.

    Attributes:
        path: of the file.
        number: of the group.
        column: of pictures, as bytes or as a struct with `bytes`.
    """

    path: Path
    number: int
    column: str

    def contents(self, places: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        """The encoded pictures at some places, each with words that say where it is.

        Raises:
            ValueError: the file is damaged, or a row holds no picture.
        """
        import pyarrow as pa

        from wolfe.reading.tables import opened_table

        try:
            with opened_table(self.path) as file:
                size = file.metadata.row_group(self.number).total_byte_size
                if size > LARGEST_GROUP:
                    raise ValueError(f"{size} bytes are more than {LARGEST_GROUP}")
                column = file.read_row_group(self.number, [self.column]).column(self.column)
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise ValueError(
                f"hub: row group {self.number} of {self.path} cannot be read ({error}): fetch the file again"
            ) from error
        for place in places:
            where, cell = f"row {place} of row group {self.number} of {self.path}", column[place].as_py()
            yield where, _bytes(where, cell)


def _bytes(where: str, cell: Any) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise ValueError(f"hub: {where} is no picture (it holds no bytes)")
    return content


@dataclass(frozen=True)
class PictureFiles:
    """Pictures that are files of their own.

    Attributes:
        paths: one a row.
    """

    paths: tuple[Path, ...]

    def contents(self, places: Sequence[int]) -> Iterator[tuple[str, bytes]]:
        """The encoded pictures at some places, each with its path."""
        for place in places:
            yield str(self.paths[place]), self.paths[place].read_bytes()


@dataclass(frozen=True)
class Table:
    """The images of one or several splits.

    Attributes:
        labels: the class of every row, int64 (N,); or the labels that are on, uint8 (N, n) of 0 and 1.
        class_names: what the classes mean, None where the files do not say.
        pieces: where pictures are read from, in the order of the rows.
        starts: the first row of each piece, and after the last the number of rows.
        sizes: the rows of each split, in the order of the rows.
    """

    labels: NDArray[Any]
    class_names: list[str] | None
    pieces: tuple[Piece, ...]
    starts: NDArray[np.int64]
    sizes: dict[str, int]

    def places(self, rows: NDArray[np.int64]) -> tuple[list[str], list[int]]:
        """For some rows the split and the row within it."""
        names, ends = list(self.sizes), np.cumsum(list(self.sizes.values()))
        index = np.searchsorted(ends, rows, side="right")
        begins = np.concatenate([[0], ends[:-1]])
        return [names[number] for number in index], (rows - begins[index]).tolist()


def joined(tables: Sequence[Table]) -> Table:
    """Several splits as one table, in their order."""
    ends = np.cumsum([0, *(table.starts[-1] for table in tables)])
    starts = [table.starts[:-1] + end for table, end in zip(tables, ends[:-1], strict=True)]
    return Table(
        labels=np.concatenate([table.labels for table in tables]),
        class_names=tables[0].class_names,
        pieces=tuple(piece for table in tables for piece in table.pieces),
        starts=np.concatenate([*starts, ends[-1:]]),
        sizes={name: size for table in tables for name, size in table.sizes.items()},
    )


def check_count(known: HubSet, split: str, rows: int, partial: bool) -> None:
    """Refuses more images than were published, and fewer unless that is meant.

    Raises:
        ValueError: the message says what to do.
    """
    wholes = [known.counts[split], *(count for name, count in known.editions if name == split)]
    most = max(wholes)
    if rows > most or not (partial or rows in wholes):
        raise ValueError(
            f"hub: {split} of {known.repository} has {' or '.join(map(str, wholes))} images, the files hold {rows}: "
            + ("these are no files of it" if rows > most else "fetch them all, or say partial: true")
        )


def names_of(known: HubSet, tables: Sequence[Table]) -> list[str]:
    """What the classes mean, as the splits agree.

    Raises:
        ValueError: they do not.
    """
    said = [table.class_names for table in tables if table.class_names is not None]
    if any(names != said[0] for names in said):
        raise ValueError(f"hub: the splits of {known.repository} name their classes differently")
    return said[0] if said else [str(number) for number in range(known.classes)]
