"""The one error that a wrong study raises, and the words its messages share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_COMPARED = 100
LONGEST = 2_000
"""Characters of a message: what it repeats of a study may be anything."""


class StudyError(ValueError):
    """A study is wrong: the message is one line that names the key and what is allowed there."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(message: str) -> str:
    """A message as one line that a terminal can show: no control characters, and not too long."""
    line = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in " ".join(message.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."


def allowed(found: object, choices: Iterable[str]) -> str:
    """The end of a message: what is allowed, and the nearest of it to what was found.

    Args:
        found: what stands in the study.
        choices: what may stand there.

    Returns:
        For example "did you mean 'step_size'? allowed: margin, step_size".
    """
    names = [str(choice) for choice in choices]
    # The time of the comparison is the product of their lengths.
    near = get_close_matches(str(found)[:_COMPARED], [name[:_COMPARED] for name in names], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names) if names else 'none'}"


def key_path(keys: Iterable[str | int]) -> str:
    """A place in a study as text: ("tables", "jma_01", "rows", 2) becomes "tables.jma_01.rows[2]"."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.lstrip(".") or "the study"


def check_name(place: str, noun: str, name: str, there: Iterable[str]) -> None:
    """Refuses a name that points at nothing.

    Args:
        place: where in the study the name stands.
        noun: what it should be the name of.
        name: the name.
        there: the names that there are.

    Raises:
        StudyError: it is none of them.
    """
    if name not in there:
        raise StudyError(f"{place}: there is no {noun} {name!r}; {allowed(name, there)}")
