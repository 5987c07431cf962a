"""Parquet files in the hub's layout: found in a folder or fetched, and read row group by row group."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wolfe.data.hub_sets import HubSet


@dataclass(frozen=True)
class Table:
    """The files of one split.

    Attributes:
        files: in the order of their names, which is the order of the rows.
        image: the column of pictures.
        label: the column of classes.
        class_names: what the classes mean.
        labels: the class of every row.
        groups: the file and the number within it of each row group.
        starts: the first row of each row group, and after the last the number of rows.
    """

    files: tuple[Path, ...]
    image: str
    label: str
    class_names: list[str]
    labels: NDArray[np.int64]
    groups: tuple[tuple[Path, int], ...]
    starts: NDArray[np.int64]


def split_files(known: HubSet, split: str, data_root: str | None, revision: str) -> tuple[tuple[Path, ...], str]:
    """The parquet files of a split, and what they are in words: a revision, or a checksum where they lie in a folder.

    Args:
        known: the data set.
        split: its name on the hub.
        data_root: a folder that holds the files, at any depth; None to fetch them from the hub.
        revision: which state of the hub's repository to fetch.

    Raises:
        FileNotFoundError: the folder or the files are missing, or the hub cannot be reached; the message says what to
            do.
    """
    folder, said = (Path(data_root), "") if data_root is not None else _fetched(known, split, revision)
    if not folder.is_dir():
        raise FileNotFoundError(f"hub: data_root {folder} is no folder")
    files = tuple(sorted(folder.rglob(f"{split}-*.parquet")))
    if not files:
        raise FileNotFoundError(
            f"hub: {folder} has no files {split}-*.parquet: put the parquet files of {known.repository} there"
        )
    return files, said or f"files {_checksum(files)}"


def _fetched(known: HubSet, split: str, revision: str) -> tuple[Path, str]:
    """The folder that the hub's own client keeps, with the files of a split, and the state that was fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    remedy = f"fetch {known.repository} on a machine with a network and name its folder as data_root"
    try:
        folder = Path(
            snapshot_download(
                known.repository, repo_type="dataset", revision=revision, allow_patterns=f"*{split}-*.parquet"
            )
        )
    except GatedRepoError as error:
        raise FileNotFoundError(
            f"hub: {known.repository} is gated: accept its terms on its page with an account, then give that account's "
            f"access token in HF_TOKEN (or run hf auth login); or {remedy}"
        ) from error
    except OSError as error:
        raise FileNotFoundError(f"hub: {known.repository} cannot be fetched here ({error}): {remedy}") from error
    # The client names a snapshot's folder by its commit.
    return folder, f"revision {folder.name}"


def _checksum(files: Sequence[Path]) -> str:
    """One short checksum of files by their names and sizes and the ends of their contents."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - (1 << 16)))
            # A parquet file ends in its schema and the place and size of every column.
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + stream.read())
    return digest.hexdigest()[:16]


def open_table(known: HubSet, split: str, files: Sequence[Path], partial: bool) -> Table:
    """Reads all of a split but its pictures.

    Args:
        known: the data set.
        split: its name on the hub.
        files: see `split_files`.
        partial: whether the files may hold fewer images than were published.

    Raises:
        ValueError: a column or the classes' names are missing or wrong, or images are missing; the message names them.
    """
    import pyarrow.parquet as pq

    opened = [pq.ParquetFile(path) for path in files]
    schema = opened[0].schema_arrow
    image, label = (_column(files[0], schema.names, names) for names in (known.image, known.label))
    rows = sum(part.metadata.num_rows for part in opened)
    wanted = known.counts[split]
    if rows > wanted or (rows < wanted and not partial):
        raise ValueError(
            f"hub: {split} of {known.repository} has {wanted} images, the files hold {rows}: "
            + ("these are no files of it" if rows > wanted else "fetch them all, or say partial: true")
        )
    labels = np.concatenate([np.asarray(part.read([label]).column(label), np.int64) for part in opened])
    names = _class_names(files[0], schema, label, known)
    if len(labels) and not 0 <= labels.min() <= labels.max() < known.classes:
        raise ValueError(f"hub: {split} of {known.repository} has rows without a label from 0 to {known.classes - 1}")
    groups = [(path, number) for path, part in zip(files, opened, strict=True) for number in range(part.num_row_groups)]
    sizes = [part.metadata.row_group(number).num_rows for part in opened for number in range(part.num_row_groups)]
    return Table(tuple(files), image, label, names, labels, tuple(groups), np.cumsum([0, *sizes]))


def _column(path: Path, there: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in there:
            return name
    raise ValueError(f"hub: {path} has no column {' or '.join(names)}; it has {', '.join(there)}")


def _class_names(path: Path, schema: Any, label: str, known: HubSet) -> list[str]:
    """The names that `datasets` keeps in the files' metadata."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        names = list(content["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"hub: {path} does not say what its classes mean (a ClassLabel in its metadata)") from error
    if len(names) != known.classes or len(set(names)) != known.classes:
        raise ValueError(f"hub: {path} names {len(set(names))} classes; {known.repository} has {known.classes}")
    return names


class Pictures(Sequence[NDArray[np.uint8]]):
    """Some rows of a table as pictures of one size, decoded when asked for: one row group at a time is in memory.

    Args:
        table: of the split.
        rows: which of its rows, rising.
        channels: 1 for grey, 3 for colour.
        size: height and width.
        shorter_side: the shorter side is brought to this length before a square of `size` is cut from the middle.
    """

    def __init__(self, table: Table, rows: NDArray[np.int64], channels: int, size: int, shorter_side: int) -> None:
        self.table = table
        self.rows = rows
        self._mode = "L" if channels == 1 else "RGB"
        self._size, self._shorter = size, shorter_side

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Sequence[NDArray[np.uint8]]:
        chosen = np.atleast_1d(self.rows[index])
        pictures = Pictures(self.table, chosen, 3 if self._mode == "RGB" else 1, self._size, self._shorter)
        return pictures if isinstance(index, slice) else next(iter(pictures))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        import pyarrow.parquet as pq

        group_of = np.searchsorted(self.table.starts, self.rows, side="right") - 1
        for group in np.unique(group_of):
            path, number = self.table.groups[group]
            column = pq.ParquetFile(path).read_row_group(number, [self.table.image]).column(self.table.image)
            for row in self.rows[group_of == group]:
                place = int(row - self.table.starts[group])
                yield self._picture(column[place].as_py(), path, place)

    def _picture(self, cell: Any, path: Path, place: int) -> NDArray[np.uint8]:
        try:
            with Image.open(io.BytesIO(cell["bytes"])) as image:
                return np.asarray(middle(image.convert(self._mode), self._size, self._shorter))
        except (OSError, TypeError, KeyError) as error:
            raise ValueError(f"hub: row {place} of a row group of {path} is no picture ({error})") from error


def middle(image: Image.Image, size: int, shorter_side: int) -> Image.Image:
    """The middle square of a picture whose shorter side was brought to a length: the usual way to evaluate.

    Args:
        image: of any shape.
        size: the square's side.
        shorter_side: length of the shorter side before the cut, at least `size`.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(shorter_side * long / short)
    shape = (shorter_side, longer) if width <= height else (longer, shorter_side)
    if shape != image.size:
        image = image.resize(shape, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))
