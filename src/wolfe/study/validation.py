"""A study against its schema: the first problem as one line that says where it is and what is allowed."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from wolfe.study.document import schema
from wolfe.study.errors import StudyError, allowed, key_path

_TYPES = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "object": "a map",
    "array": "a list",
    "boolean": "true or false",
    "null": "null",
}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_MOST_ERRORS = 1_000
_MOST_ENTRIES, _LONGEST_TEXT, _LARGEST_NUMBER = 1_000, 2_000, 1 << 53
_UNKNOWN_KEYS = ("additionalProperties", "unevaluatedProperties")
# A wrong value is the cause of what follows from it, and a misspelt key the cause of a missing one.
_RANK = {"additionalProperties": 1, "unevaluatedProperties": 1, "required": 2}


def validate(document: Mapping[str, Any]) -> None:
    """Checks a study's values against the schema.

    Args:
        document: the study as plain values.

    Raises:
        StudyError: the most telling of the problems.
    """
    check_bounds(document, [])
    errors = islice(Draft202012Validator(schema()).iter_errors(document), _MOST_ERRORS)
    messages = [(_RANK.get(str(error.validator), 0), message) for error in errors for message in _messages(error)]
    if messages:
        raise StudyError(min(messages, key=lambda item: item[0])[1])


def validate_row(row: Mapping[str, Any], place: str) -> None:
    """Checks one row of attacks, as it results when parameters of another are changed.

    Args:
        row: the attack and its parameters.
        place: where in the study it comes from.

    Raises:
        StudyError: the most telling of the problems.
    """
    part = {"$defs": schema()["$defs"], "$ref": "#/$defs/row"}
    messages = [message for error in Draft202012Validator(part).iter_errors(row) for message in _messages(error)]
    if messages:
        raise StudyError(f"{place}.{messages[0]}")


def check_bounds(value: Any, path: list[str | int]) -> None:
    """Refuses what no value of a study is, whatever its key; each further bound stands in the schema.

    Args:
        value: of plain kinds.
        path: where in the study it stands.

    Raises:
        StudyError: numbers without end, texts with control characters or too long, and lists and maps too long. YAML
            writes .nan and .inf for numbers that satisfy every bound of a schema.
    """
    place = key_path(path)
    if isinstance(value, Mapping | list) and len(value) > _MOST_ENTRIES:
        raise StudyError(f"{place}: must have at most {_MOST_ENTRIES} entries, not {len(value)}")
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_bounds(item, [*path, str(name)])
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_bounds(item, [*path, index])
    elif isinstance(value, float) and not math.isfinite(value):
        raise StudyError(f"{place}: must be a finite number, not {value}")
    elif isinstance(value, int | float) and abs(value) > _LARGEST_NUMBER:
        raise StudyError(f"{place}: must be a number of at most {_LARGEST_NUMBER}")
    elif isinstance(value, str) and (len(value) > _LONGEST_TEXT or any(map(_breaks, value))):
        raise StudyError(f"{place}: must be text of at most {_LONGEST_TEXT} characters in one line")


def _breaks(sign: str) -> bool:
    """Whether a character ends a line, controls a terminal, or is none."""
    return unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")


def _messages(error: ValidationError) -> Iterator[str]:
    place = key_path(error.absolute_path)
    rule, value = str(error.validator), error.validator_value
    if rule in _UNKNOWN_KEYS:
        yield from _unknown_keys(error, place)
    elif rule in _BOUNDS:
        yield f"{place}: must be {_BOUNDS[rule]} {value}, not {error.instance}"
    else:
        yield f"{place}: {_sentence(rule, value, error)}"


def _sentence(rule: str, value: Any, error: ValidationError) -> str:
    found: Any = error.instance
    if rule == "enum":
        noun = error.absolute_path[-1] if error.absolute_path else "value"
        noun = "attack" if isinstance(noun, int) else noun
        return f"unknown {noun} {found!r}; {allowed(found, value)}"
    if rule == "type":
        kinds = [value] if isinstance(value, str) else value
        return f"must be {' or '.join(_TYPES[kind] for kind in kinds)}, not {found!r}"
    if rule == "required":
        missing = [name for name in value if name not in found]
        return f"{missing[0]!r} is missing (required: {', '.join(value)})"
    if rule == "not":
        return f"{found!r} is a name that the workflow uses itself; take another one"
    if rule == "maxLength":
        return f"{found!r} is too long; at most {value} characters"
    if rule == "pattern":
        return f"{found!r} is no name: use letters, digits and _ only, beginning with a letter"
    if rule in ("minItems", "minProperties"):
        return "must not be empty"
    return " ".join(error.message.split())


def _unknown_keys(error: ValidationError, place: str) -> Iterator[str]:
    choices = list(_allowed_keys(error.schema, error.instance))
    found: Any = error.instance
    for key in found:
        if key not in choices:
            where = f"{place}.{key}" if error.absolute_path else str(key)
            yield f"{where}: unknown key; {allowed(key, sorted(choices))}"


def _allowed_keys(part: Any, instance: Any) -> Iterator[str]:
    """The keys that a part of the schema lets an instance have, with those of the branches that apply to it."""
    if "$ref" in part:
        part = _resolve(part["$ref"])
    yield from part.get("properties", {})
    for branch in part.get("allOf", []):
        if Draft202012Validator(branch["if"]).is_valid(instance):
            yield from _allowed_keys(branch["then"], instance)


def _resolve(reference: str) -> Any:
    part: Any = schema()
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return part
