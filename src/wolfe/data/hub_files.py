"""Parquet files in the hub's layout: found in a folder or fetched, and opened as a table."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wolfe.data.hub_labels import column_of, read_labels, read_names
from wolfe.data.hub_sets import HubSet
from wolfe.data.hub_table import RowGroup, Table, check_count

Named = TypeVar("Named")

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
    """
    folder, said = (Path(data_root), "") if data_root is not None else _fetched(known, split, revision, most)
    if not folder.is_dir():
        raise FileNotFoundError(f"hub: data_root {folder} is no folder")
    files = spread(parquet_files(known, split, folder), most)
    if not files:
        wanted = " or ".join(f"{beginning}-*.parquet" for beginning in known.beginnings(split))
        raise FileNotFoundError(
            f"hub: {folder} has no files {wanted}: put the parquet files of {known.repository} there"
        )
    return files, said or f"files {checksum(files)}"


def parquet_files(known: HubSet, split: str, folder: Path) -> tuple[Path, ...]:
    """The files of a split, in the order of their names; none if the folder has none."""
    for beginning in known.beginnings(split):
        if files := sorted(folder.rglob(f"{beginning}-*.parquet")):
            return tuple(files)
    return ()


def spread(files: Sequence[Named], most: int | None) -> tuple[Named, ...]:
    """So many of the files, at even distances; all of them if they are not more."""
    if most is None or len(files) <= most:
        return tuple(files)
    return tuple(files[number * len(files) // most] for number in range(most))


def _fetched(known: HubSet, split: str, revision: str, most: int | None) -> tuple[Path, str]:
    """The folder that the hub's own client keeps, with the files of a split, and the state that was fetched."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    remedy = f"fetch {known.repository} on a machine with a network and name its folder as data_root"
    patterns = [f"*{beginning}-*.parquet" for beginning in known.beginnings(split)]
    try:
        if most is not None:
            names = HfApi().list_repo_files(known.repository, repo_type="dataset", revision=revision)
            matching = (sorted(fnmatch.filter(names, pattern)) for pattern in patterns)
            patterns = list(spread(next((found for found in matching if found), []), most))
        folder = Path(
            snapshot_download(known.repository, repo_type="dataset", revision=revision, allow_patterns=patterns)
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
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.metadata, file.schema_arrow
    except pa.ArrowInvalid as error:
        raise ValueError(f"hub: {path} is damaged or no parquet file ({error}): fetch it again") from error
