"""Compares the tables of two runs of a study, times aside."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from wolfe.reading.regular import regular_file

_TIMED_CLAIM = "time of a step"


def differing_tables(first: Path, second: Path) -> list[str]:
    """What differs between the tables of two runs: equal studies on equal machines give equal bytes, but for times.

    Args:
        first: `results/<study>` of one run.
        second: that of the other.

    Returns:
        A line for each table that differs or that only one of them has.

    Raises:
        ValueError: there are no tables to compare, or one is no CSV file.
    """
    # A name that begins with a dot is what a killed process was writing.
    ours, theirs = (
        {file.name: file for file in Path(place).glob("tables/*.csv") if not file.name.startswith(".")}
        for place in (first, second)
    )
    if not ours or not theirs:
        raise ValueError(f"{second if ours else first} holds no tables to compare")
    lines = [
        f"missing: tables/{name} (only {second if name in theirs else first} has it)"
        for name in sorted(ours.keys() ^ theirs.keys())
    ]
    both = sorted(ours.keys() & theirs.keys())
    return lines + [f"differs: tables/{name}" for name in both if timeless(ours[name]) != timeless(theirs[name])]


def timeless(table: Path) -> str:
    """A table's CSV without columns of seconds or milliseconds and without what claims about times measured.

    Raises:
        ValueError: it is no CSV file; the message names it.
    """
    try:
        cells = pd.read_csv(regular_file(table), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{table} is no readable table ({error})") from error
    times = [name for name in cells.columns if "seconds" in name]
    if "measured" in cells:
        cells = cells[~cells["measured"].str.startswith(_TIMED_CLAIM)]
    return cells.drop(columns=times).to_csv(index=False, lineterminator="\n")
