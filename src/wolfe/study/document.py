"""Reading a study: YAML without surprises, and the schema it must satisfy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from wolfe.reading.text import LARGEST_YAML, BoundedLoader, parse_yaml, read_text
from wolfe.study.errors import StudyError

ROOT = Path(__file__).resolve().parents[3]
"""The checkout: `config/` with the schema, the studies and the published numbers lies there."""

SCHEMA_FILE = ROOT / "config" / "schema" / "study.schema.yaml"
PUBLISHED_FOLDER = ROOT / "config" / "published"

# YAML 1.1 reads 1e-4 as text, because it has no dot, and `snakemake --config` hands all numbers in maps on as text.
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_LONGEST_NUMBER = 50
_WORDS = {"true": True, "false": False}
_TEXT_KEYS = frozenset({"study", "title", "stands_in", "label", "published"})


class _StrictLoader(BoundedLoader):
    """A safe loader that refuses a key given twice, where YAML would silently keep the last."""


def _strict_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key_node, _ in node.value:
        # Keys of a study are plain text; `<<` may be repeated, it adds what other maps hold.
        if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise StudyError(f"line {line}: the key {key_node.value!r} stands twice in the same map")
            seen.add(key_node.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _strict_mapping)


def read_document(path: Path) -> dict[str, Any]:
    """Reads a study's file.

    Args:
        path: a YAML (or JSON) file.

    Returns:
        Its contents, not yet validated.

    Raises:
        StudyError: the file is missing or no regular one, does not parse, gives a key twice, holds no map, or is beyond
            the bounds of `wolfe.reading.text`.
    """
    path = Path(path)
    try:
        document = parse_yaml(read_text(path, LARGEST_YAML), _StrictLoader)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise StudyError(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise StudyError(f"{path}: must hold a map with keys such as study, datasets, models, tables")
    return document


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Two studies as one, as Snakemake joins several files: maps are joined, else the second's value stands."""
    joined = dict(first)
    for key, value in second.items():
        below = joined.get(key)
        joined[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return joined


def plain(value: Any, key: str = "") -> Any:
    """A study's values as plain dicts, lists and numbers; text such as "1e-4" becomes what it means."""
    if isinstance(value, Mapping):
        if key == "published":
            return dict(value)
        return {name: plain(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, key) for item in value]
    if isinstance(value, str) and key not in _TEXT_KEYS:
        if len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
            return int(value) if value.lstrip("+-").isdecimal() else float(value)
        return _WORDS.get(value, value)
    return value


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a study.

    Raises:
        StudyError: the schema's file is not there (the package stands outside a checkout).
    """
    if not SCHEMA_FILE.is_file():
        raise StudyError(f"{SCHEMA_FILE}: the schema of a study is missing; work in a checkout of the project")
    with SCHEMA_FILE.open(encoding="utf-8") as stream:
        loaded: dict[str, Any] = yaml.safe_load(stream)
    return loaded


def attack_names() -> list[str]:
    """The attacks that a study can name."""
    return list(schema()["$defs"]["attacks"])


def attack_parameters(attack: str) -> dict[str, dict[str, Any]]:
    """The parameters of an attack: name to its schema, with `default` where it has one."""
    properties: dict[str, dict[str, Any]] = schema()["$defs"]["attacks"][attack]["properties"]
    return properties


def defaults(attack: str) -> dict[str, Any]:
    """The parameters of an attack that need not be given, with the values they then have."""
    return {name: entry["default"] for name, entry in attack_parameters(attack).items() if "default" in entry}


def limits_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """A study's limits, with the schema's values for those that it does not set."""
    limits = {**_usual("limits"), **document.get("limits", {})}
    asked = limits.get("resources", {})
    limits["resources"] = {stage: {**job, **asked.get(stage, {})} for stage, job in _usual("resources").items()}
    return limits


def _usual(part: str) -> dict[str, Any]:
    entries = schema()["$defs"][part]["properties"]
    return {name: entry["default"] for name, entry in entries.items() if "default" in entry}


def check_unique_keys(files: Iterable[str | Path]) -> None:
    """Reads files only to refuse keys that are given twice.

    Raises:
        StudyError: see `read_document`.
    """
    for file in files:
        read_document(Path(file))
