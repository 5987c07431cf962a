"""The names of parquet files: which are a split's, whether they are parts of one copy, and which of them are used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import TypeVar

from wolfe.data.hub_sets import HubSet

Named = TypeVar("Named", bound=PurePath)

# The hub's files are called train-00000-of-00003.parquet, some with a further word before the dot.
_NUMBERED = re.compile(r"-(\d+)-of-(\d+)(?=[-.])")


def files_of_split(known: HubSet, split: str, files: Iterable[Named]) -> tuple[Named, ...]:
    """Those files that hold a split, in the order of their names; none if there is none.

    Raises:
        ValueError: they are of several copies, so that images would come twice; the message names two.
    """
    there = sorted(files)
    for beginning in known.beginnings(split):
        if found := tuple(path for path in there if path.match(f"{beginning}-*.parquet")):
            _check_one_copy(known, found)
            return found
    return ()


def _check_one_copy(known: HubSet, files: Sequence[PurePath]) -> None:
    """Refuses equal names or numbers, which may be in several folders, and files that are of other numbers of files."""
    seen: dict[str, PurePath] = {}
    for path in files:
        number, whole = _numbered(path)
        twin = seen.setdefault(number or path.name, path)
        if twin is path and whole != _numbered(files[0])[1]:
            twin = files[0]
        if twin is not path:
            raise ValueError(
                f"hub: {twin} and {path} are of several copies of {known.title}, or of several sets: keep the files of "
                "one copy there"
            )


def _numbered(path: PurePath) -> tuple[str, str]:
    """Which file of how many a name says it is; empty where it does not."""
    match = _NUMBERED.search(path.name)
    return (match[1], match[2]) if match else ("", "")


def copy_size(files: Sequence[PurePath]) -> int:
    """How many files the copy has that files are of, as far as their names say."""
    whole = _numbered(files[0])[1]
    return int(whole) if whole else len(files)


def check_complete(known: HubSet, split: str, files: Sequence[PurePath], partial: bool) -> None:
    """Refuses a copy of which files are missing, unless that is meant.

    Raises:
        ValueError: the message says how many are there.
    """
    if not partial and len(files) < copy_size(files):
        raise ValueError(
            f"hub: {split} of {known.repository} has {copy_size(files)} files like {files[0].name}, {len(files)} are "
            "there: fetch them all, or say partial: true"
        )


def spread(files: Sequence[Named], most: int | None) -> tuple[Named, ...]:
    """So many of the files, at even distances; all of them if they are not more."""
    if most is None or len(files) <= most:
        return tuple(files)
    return tuple(files[number * len(files) // most] for number in range(most))
