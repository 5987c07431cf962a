"""Rows of a study against the published rows that they name."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wolfe.study.document import defaults
from wolfe.study.errors import StudyError, allowed

# Columns of a published table and the parameter of an attack that each is.
_PARAMETERS = {
    "epsilon": "step_size",
    "lambda0": "initial_constant",
    "n_bs": "search_steps",
    "n_it_max": "max_iterations",
}


def published_lines(place: str, table: Mapping[str, Any], published: Path) -> list[dict[str, str]] | None:
    """The lines of the published table that a table names, or None if it names none.

    Raises:
        StudyError: there is no such file, or it is no table of attacks.
    """
    if "published" not in table:
        return None
    file = published / table["published"]
    if not file.is_file():
        there = sorted(item.name for item in published.glob("*.csv"))
        raise StudyError(f"{place}.published: there is no {table['published']!r}; {allowed(table['published'], there)}")
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in ("attack", "params") if name not in (reader.fieldnames or ())]
        if missing:
            raise StudyError(
                f"{place}.published: {table['published']!r} is no table of attacks: it has no column {missing[0]!r}"
            )
        return list(reader)


def check_published_row(
    place: str, row: Mapping[str, Any], table: Mapping[str, Any], lines: list[dict[str, str]] | None
) -> None:
    """Checks that a row names a published row, that it is there, and that it asks for the same parameters.

    Raises:
        StudyError: it does not.
    """
    named = row.get("published")
    if named and row.get("origin") == "ours":
        raise StudyError(f"{place}: a row of origin 'ours' has no published numbers; drop 'published' or 'origin'")
    if named and lines is None:
        raise StudyError(f"{place}.published: the table names no published file; give the table's 'published'")
    if lines is not None and not named and row.get("origin", "paper") == "paper":
        raise StudyError(f"{place}: a row of origin 'paper' names its 'published' row; else say 'origin: ours'")
    if not named:
        return
    found = [line for line in lines or [] if (line["attack"], line["params"]) == (named["attack"], named["params"])]
    if not found:
        there = [f"{line['attack']} {line['params']}" for line in lines or []]
        wanted = f"{named['attack']} {named['params']}"
        raise StudyError(f"{place}.published: {table['published']} has no row {wanted!r}; {allowed(wanted, there)}")
    _check_parameters(place, row, found[0])


def _check_parameters(place: str, row: Mapping[str, Any], line: Mapping[str, str]) -> None:
    asked = {**defaults(row["attack"]), **row}
    for column, name in _PARAMETERS.items():
        if line.get(column) and name in asked and float(asked[name]) != float(line[column]):
            raise StudyError(f"{place}.{name}: the published row it names has {line[column]}, not {asked[name]}")
