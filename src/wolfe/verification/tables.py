"""Compares the tables of two runs of a study, times aside."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from wolfe.reading.regular import regular_file

_SUFFIXES = (".csv", ".md", ".tex")
_TIMED_CLAIM = "time of a step"
# How many claims hold counts those about times too.
_TIMED_LINES = (_TIMED_CLAIM, "claims, in ")
_TIMED_WORDS = re.compile("seconds.*")
_TIMED_HEADER = re.compile(r"(^|: )s/image$|, m?s$")
_CELLS = {".md": re.compile(r"(?<!\\)\|"), ".tex": re.compile(r"(?<!\\)&|\\\\$")}


def differing_tables(first: Path, second: Path) -> list[str]:
    """What differs between the tables of two runs: equal studies on equal machines give equal bytes, but for times.

    Where CSV files are equal to the byte, so must be what readers see of them. Else all three are compared without
    times, everything else of the CSV as the text that it is, the others cell by cell and paragraph by paragraph.

    Args:
        first: `results/<study>` of one run.
        second: that of the other.

    Returns:
        A line for each file that differs, cannot be read or is there only once.

    Raises:
        ValueError: there are no tables to compare.
    """
    ours, theirs = _tables(first), _tables(second)
    if not ours or not theirs:
        raise ValueError(f"{second if ours else first} holds no tables to compare")
    lines = [
        f"missing: tables/{name} (only {second if name in theirs else first} has it)"
        for name in sorted(ours.keys() ^ theirs.keys())
    ]
    for name in sorted(ours.keys() & theirs.keys()):
        try:
            lines += [] if _equal(ours[name], theirs[name]) else [f"differs: tables/{name}"]
        except (ValueError, csv.Error) as error:
            lines.append(f"damaged: tables/{name} ({error})")
    return lines


def _tables(results: Path) -> dict[str, Path]:
    """The files of tables by name; one that begins with a dot is what a killed process was writing."""
    files = [file for file in Path(results).glob("tables/*") if file.suffix in _SUFFIXES]
    return {file.name: file for file in files if not file.name.startswith(".")}


def _equal(first: Path, second: Path) -> bool:
    """Whether two files of the same name are equal but for times."""
    texts = [_text(file) for file in (first, second)]
    if texts[0] == texts[1]:
        return True
    if first.suffix == ".csv":
        return _timeless_csv(texts[0]) == _timeless_csv(texts[1])
    sources = [file.with_suffix(".csv") for file in (first, second)]
    if all(file.is_file() for file in sources) and sources[0].read_bytes() == sources[1].read_bytes():
        return False
    cells = _CELLS[first.suffix]
    return list(_timeless_lines(texts[0], cells)) == list(_timeless_lines(texts[1], cells))


def _text(file: Path) -> str:
    """A file's text, ends of lines as they are."""
    try:
        text = regular_file(file).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no readable table ({error})") from error
    if not text:
        raise ValueError(f"{file} is no readable table (it is empty)")
    return text


def _timeless_csv(text: str) -> list[list[str]]:
    """The lines of a CSV file without times, after a line of its quotes and ends of lines.

    Times are columns of seconds or milliseconds, and lines on what claims about times measured.
    """
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    times = {place for place, name in enumerate(header) if "seconds" in name}
    claims = header.index("measured") if "measured" in header else len(header)
    told = [line for line in lines if not any(cell.startswith(_TIMED_CLAIM) for cell in line[claims:][:1])]
    # The reader says nothing of quotes and of how lines end.
    marks = [re.sub(r'[^"\r\n]', "", text)]
    return [marks, header, *(["" if place in times else cell for place, cell in enumerate(line)] for line in told)]


def _timeless_lines(text: str, cells: re.Pattern[str]) -> Iterator[list[str]]:
    """The lines of a table for readers as their cells, without times and without the blanks that they ask for."""
    times: set[int] = set()
    for line in text.split("\n"):
        if not any(words in line for words in _TIMED_LINES):
            row = [_narrow(cell) for cell in cells.split(_TIMED_WORDS.sub("", line))]
            named = {place for place, cell in enumerate(row) if place and _TIMED_HEADER.search(cell)}
            yield ["" if place in times and not named and cell.strip(":-") else cell for place, cell in enumerate(row)]
            times = named or times


def _narrow(cell: str) -> str:
    """A cell without the blanks around it; of a rule, which is as wide as its column, what tells how it is set."""
    cell = cell.strip()
    return cell if cell.strip(":-") else re.sub("-+", "-", cell)
