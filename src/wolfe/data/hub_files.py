"""Parquet files in the hub's layout: found in a folder or fetched, and opened as a table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wolfe.data.hub_fetch import fetched, listed
from wolfe.data.hub_labels import column_of, read_labels, read_names
from wolfe.data.hub_sets import HubSet
from wolfe.data.hub_shards import check_complete, copy_size, files_of_split, spread
from wolfe.data.hub_table import RowGroup, Table, check_count

# A parquet file ends in its schema and the place and size of every column.
_END = 1 << 16


def split_files(
    known: HubSet, split: str, data_root: str | None, revision: str, most: int | None = None
) -> tuple[tuple[Path, ...], str]:
    """The parquet files of a split, and what they are in words: a revision, or a checksum where they lie in a folder.

    Args:
        known: the data set.
        split: its name on the hub.
        data_root: a folder that holds the files, at any depth; None to fetch them from the hub.
        revision: which state of the hub's repository to fetch.
        most: how many of the files, at even distances; only these are fetched. None for all.

    Raises:
        FileNotFoundError: the folder or the files are missing, or the hub cannot be reached; the message says what to
            do.
        ValueError: the files are of several copies of the set.
    """
    if data_root is None:
        found, files, said = _fetched(known, split, revision, most)
    else:
        found, files, said = _in_folder(known, split, Path(data_root), most)
    if not files:
        wanted = " or ".join(f"{beginning}-*.parquet" for beginning in known.beginnings(split))
        where, remedy = data_root, f"put the parquet files of {known.repository} there"
        if data_root is None:
            where, remedy = known.repository, "name a folder as data_root"
        raise FileNotFoundError(f"hub: {where} has no files {wanted}: {remedy}")
    whole = max(found, copy_size(files))
    return files, said + (f", {len(files)} of {whole} files" if len(files) < whole else "")


def parquet_files(known: HubSet, split: str, folder: Path) -> tuple[Path, ...]:
    """The files of a split below a folder, in the order of their names; none if the folder has none."""
    return files_of_split(known, split, (path for path in folder.rglob("*.parquet") if path.is_file()))


def _in_folder(known: HubSet, split: str, folder: Path, most: int | None) -> tuple[int, tuple[Path, ...], str]:
    """How many files of a split a folder has, those that are used, and their checksum in words."""
    if not folder.is_dir():
        raise FileNotFoundError(f"hub: data_root {folder} is no folder")
    there = parquet_files(known, split, folder)
    files = spread(there, most)
    return len(there), files, f"files {checksum(files)}"


def _fetched(known: HubSet, split: str, revision: str, most: int | None) -> tuple[int, tuple[Path, ...], str]:
    """How many files of a split the hub has, as far as that was asked, those that are used, and the state in words."""
    if most is None:
        patterns = [f"*{beginning}-*.parquet" for beginning in known.beginnings(split)]
        folder = fetched(known, revision, patterns)
        files = parquet_files(known, split, folder)
        return len(files), files, f"revision {folder.name}"
    # The client's folder may hold more files than were asked for now: those that are used are chosen by the hub's list.
    there = files_of_split(known, split, listed(known, revision))
    chosen = spread(there, most)
    folder = fetched(known, revision, [str(name) for name in chosen])
    return len(there), tuple(folder / name for name in chosen), f"revision {folder.name}"


def checksum(files: Sequence[Path]) -> str:
    """One short checksum of files by their names and sizes and the ends of their contents."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _END))
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + stream.read())
    return digest.hexdigest()[:16]


def open_parquet(known: HubSet, split: str, files: Sequence[Path], partial: bool) -> Table:
    """Reads all of a split but its pictures.

    Args:
        known: the data set.
        split: its name on the hub.
        files: see `split_files`.
        partial: whether the files may hold fewer images than were published.

    Raises:
        ValueError: a file is damaged, a column or the classes' names are missing or wrong, or images are missing; the
            message names them.
    """
    check_complete(known, split, files, partial)
    metadata, schemas = zip(*(_opened(path) for path in files), strict=True)
    image, label = (column_of(files[0], schemas[0].names, names) for names in (known.image, known.label))
    for path, schema in zip(files, schemas, strict=True):
        column_of(path, schema.names, [image])
        column_of(path, schema.names, [label])
    check_count(known, split, sum(part.num_rows for part in metadata), partial)
    pieces, sizes = [], [0]
    for path, part in zip(files, metadata, strict=True):
        for number in range(part.num_row_groups):
            pieces.append(RowGroup(path, number, image))
            sizes.append(part.row_group(number).num_rows)
    class_names = read_names(known, files[0], schemas[0], label)
    return Table(
        labels=np.concatenate([read_labels(known, split, path, label) for path in files]),
        class_names=class_names,
        pieces=tuple(pieces),
        starts=np.cumsum(sizes),
        sizes={split: sum(sizes)},
    )


def _opened(path: Path) -> tuple[Any, Any]:
    """The metadata and the schema of a file."""
    import pyarrow as pa

    from wolfe.reading.tables import opened_table

    try:
        with opened_table(path) as file:
            return file.metadata, file.schema_arrow
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(f"hub: {path} is damaged or no parquet file ({error}): fetch it again") from error
