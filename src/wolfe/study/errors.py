"""The one error that a wrong study raises, and the words its messages share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(ValueError):
    """A study is wrong: the message is one line that names the key and what is allowed there."""


def allowed(found: object, choices: Iterable[str]) -> str:
    """The end of a message: what is allowed, and the nearest of it to what was found.

    Args:
        found: what stands in the study.
        choices: what may stand there.

    Returns:
        For example "did you mean 'step_size'? allowed: margin, step_size".
    """
    names = [str(choice) for choice in choices]
    near = get_close_matches(str(found), names, n=1)
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
