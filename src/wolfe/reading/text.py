"""Text, JSON and YAML with bounds on size, depth and what aliases may grow to."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wolfe.reading.regular import is_regular

LARGEST_JSON = 256 << 20
"""Bytes of a JSON file; the largest that the pipeline writes have some megabytes."""
LARGEST_YAML = 1 << 20
"""Bytes of a YAML file; the largest study here has less than a tenth of that."""
MOST_NODES = 50_000
"""Values in a YAML file, each as often as aliases repeat it; the largest study here has some six thousand."""
DEEPEST = 50
"""Lists and maps inside each other; a study has ten."""
_BLOCK = 1 << 16


def read_text(path: Path, most: int) -> str:
    """A whole text file.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, larger, or not in UTF-8.
    """
    content = bytearray()
    if not is_regular(path):
        raise ValueError("is no regular file")
    with Path(path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        # In blocks: to ask for all that a file may have takes as much memory for one of two bytes.
        while size <= most and len(content) <= most and (block := stream.read(_BLOCK)):
            content += block
    if max(size, len(content)) > most:
        raise ValueError(f"is larger than {most} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text file in UTF-8 ({error})") from None


def parse_json(text: str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it does not parse, or is nested more than `DEEPEST` times.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"is nested more than {DEEPEST} times") from None
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Refuses what functions that call themselves could not follow."""
    level = [value]
    for _ in range(DEEPEST + 1):
        if not level:
            return
        level = [item for part in level for item in _inside(part)]
    raise ValueError(f"is nested more than {DEEPEST} times")


def _inside(value: Any) -> Sequence[Any]:
    """The lists and maps directly inside a value."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


class BoundedLoader(yaml.SafeLoader):
    """A safe loader that stops at too many values and at values too deep, before it builds them."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next value; called for each one, also for an alias."""
        self._nodes += 1
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"is nested more than {DEEPEST} times")
        if self._nodes > MOST_NODES:
            raise ValueError(f"holds more than {MOST_NODES} values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """The whole document, once it is known what aliases would make of it."""
        node = super().get_single_node()
        if node is not None and _unfolded(node, {}, frozenset()) > MOST_NODES:
            raise ValueError(f"holds more than {MOST_NODES} values where its aliases stand for what they name")
        return node


def _unfolded(node: yaml.Node, known: dict[int, int], above: frozenset[int]) -> int:
    """How many values a node holds, each as often as aliases repeat it.

    Args:
        node: its root.
        known: what was counted already.
        above: the nodes that this one is inside of.

    Raises:
        ValueError: it is inside itself.
    """
    if id(node) in above:
        raise ValueError("has an alias of something that it is inside of")
    if id(node) not in known:
        above |= {id(node)}
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = 1 + sum(_unfolded(part, known, above) for part in inner)
    return known[id(node)]


def parse_yaml(text: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """The value of YAML text: plain values only.

    Args:
        text: one document.
        loader: a kind of `BoundedLoader`.

    Raises:
        ValueError: it does not parse, or is beyond the bounds of this module.
    """
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML ({' '.join(str(error).split())})") from None
    except (RecursionError, OverflowError, TypeError, AttributeError, KeyError, IndexError) as error:
        # PyYAML's constructors fail by whatever comes first where a tag does not fit its value.
        raise ValueError(f"is not valid YAML ({error})") from None
