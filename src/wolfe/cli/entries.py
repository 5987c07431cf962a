"""What the entries hold that stages are given; a stranger's may hold anything, and stages take them as they are."""

from __future__ import annotations

from collections.abc import Mapping
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
_LISTS = frozenset(
    [
        *("attacks", "budgets", "detectors", "experiments", "learning_rates", "models", "pairs", "parts", "rows"),
        *("single", "slugs", "tables", "tested", "transfers"),
    ]
)
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
    if name in _TEXTS and not isinstance(value, str):
        return "a text"
    if name == "rule" and not isinstance(value.get("rule") if isinstance(value, Mapping) else value, str):
        return "a text, or a map with a rule that is one"
    if name == "rows" and not (isinstance(value, list) and all(isinstance(item, Mapping | str) for item in value)):
        return "a list of maps or names"
    if name in _MAPS and not isinstance(value, Mapping):
        return "a map"
    if name in _LISTS_OF_MAPS and not (isinstance(value, list) and all(isinstance(item, Mapping) for item in value)):
        return "a list of maps"
    if name in _LISTS and not isinstance(value, list):
        return "a list"
    if name in _COUNTS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        return "a whole number from 1 on"
    if name in _SIZES and isinstance(value, int) and value > _LARGEST_SET:
        return f"at most {_LARGEST_SET}"
    return None
