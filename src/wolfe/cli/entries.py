"""What the entries hold that stages are given; a stranger's may hold anything, and stages take them as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# In resolved entries a name means the same wherever it stands.
_TEXTS = frozenset(
    [
        *("attack", "architecture", "code", "dataset", "judge", "kind", "label", "loss", "model", "name", "origin"),
        *("params", "setting", "slug", "source", "targets", "title", "trace", "which"),
    ]
)
_MAPS = frozenset(
    [
        *("asked", "augment", "backbone", "base", "experiment", "learn", "multi_class", "network", "over_optimised"),
        *("parameters", "part", "splits", "training", "variant"),
    ]
)
_LISTS = frozenset(["attacks", "budgets", "learning_rates", "models", "pairs", "single", "slugs", "tables", "tested"])
_LISTS_OF_MAPS = frozenset(["detectors", "experiments", "parts", "transfers"])
_COUNTS = frozenset(["bits", "images"])
_SIZES = frozenset(["images", "test", "train", "validation"])
# Where nothing (null) stands for all, for none, or for what the stage chooses.
_MAY_BE_NOTHING = frozenset(["images", "rows", "trace"])
_LARGEST_SET = 10_000_000
"""Images of a data set, as in the schema of studies."""


def checked_entry(entry: Any, option: str) -> Any:
    """The entry itself, once names that have a meaning are known to hold what fits it.

    Args:
        entry: maps, lists and values.
        option: where it was given, for messages.

    Raises:
        ValueError: one holds something else; the message names it.
    """
    if isinstance(entry, list):
        for item in entry:
            checked_entry(item, option)
    elif isinstance(entry, Mapping):
        for name, value in entry.items():
            wanted = _wanted(name, value)
            if wanted:
                raise ValueError(f"{option}: {name} must be {wanted}, not {value!r}")
            checked_entry(value, option)
    return entry


def _wanted(name: Any, value: Any) -> str | None:
    """What an entry must hold, where it holds something else."""
    if value is None and name in _MAY_BE_NOTHING:
        return None
    return next((wanted for names, wanted, holds in _KINDS if name in names and not holds(value)), None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_rule(value: Any) -> bool:
    return _is_text(value.get("rule") if isinstance(value, Mapping) else value)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_list_of_maps(value: Any) -> bool:
    return _is_list(value) and all(map(_is_map, value))


def _is_list_of_rows(value: Any) -> bool:
    return _is_list(value) and all(_is_map(item) or _is_text(item) for item in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_size(value: Any) -> bool:
    """Whether a value is no number of images that nobody has; splits may be told in words."""
    return not isinstance(value, int) or value <= _LARGEST_SET


_KINDS: tuple[tuple[frozenset[str], str, Callable[[Any], bool]], ...] = (
    (_TEXTS, "a text", _is_text),
    (_MAPS, "a map", _is_map),
    (frozenset(["rule"]), "a text, or a map with a rule that is one", _is_rule),
    (frozenset(["rows"]), "a list of maps or names", _is_list_of_rows),
    (_LISTS, "a list", _is_list),
    (_LISTS_OF_MAPS, "a list of maps", _is_list_of_maps),
    (_COUNTS, "a whole number from 1 on", _is_count),
    (_SIZES, f"at most {_LARGEST_SET}", _is_size),
)
"""Names, what they hold in words, and whether a value is that."""
