"""The attack jobs of a study: which rows one process attacks with."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wolfe.study.errors import StudyError
from wolfe.study.rows import canonical

_LONGEST_NAME, _LONGEST_ENTRY = 150, 100_000


@dataclass(frozen=True)
class Batch:
    """The rows that one process attacks with.

    Attributes:
        name: the tables that use them, joined by "_and_"; unique in a study.
        model: the model's name.
        dataset: its data set's name.
        targets: the name of the target rule with its parameters.
        rows: `{"slug", "attack", "parameters", "trace", "images"}`, each piece of work once; trace: what the run also
            writes down at every step, "jacobian" (its rank) or "steps" (of an attack along a gradient), or None;
            images: how many it attacks, the first ones, or None for all.
        tables: the tables that use every one of these rows.
    """

    name: str
    model: str
    dataset: str
    targets: str
    rows: list[dict[str, Any]]
    tables: tuple[str, ...]


def batches_of(tables: Mapping[str, dict[str, Any]], followed: Collection[str]) -> list[Batch]:
    """Groups rows by the exact set of tables that use them: a table's jobs run what it needs and nothing twice.

    Args:
        tables: name to resolved table, of any kind.
        followed: names of the tables whose attacks are followed step by step.
    """
    users: dict[tuple[str, str, str], list[str]] = {}
    work: dict[tuple[str, str, str], dict[str, Any]] = {}
    datasets: dict[str, str] = {}
    for name, model, dataset, targets, row in _work(tables):
        key = (model, targets, row["slug"])
        tables_of = users.setdefault(key, [])
        tables_of += [name] if name not in tables_of else []
        parameters = canonical(row["attack"], row["parameters"])
        piece = {"slug": row["slug"], "attack": row["attack"], "parameters": parameters, "images": row["images"]}
        trace = "jacobian" if row["attack"] == "jma" else "steps" if name in followed else None
        kept = work.setdefault(key, {**piece, "trace": trace})
        kept["trace"] = kept["trace"] or trace
        datasets[model] = dataset
    grouped: dict[tuple[tuple[str, ...], str, str], list[tuple[str, str, str]]] = {}
    for key, names in users.items():
        grouped.setdefault((tuple(names), *key[:2]), []).append(key)
    several = Counter(names for names, _, _ in grouped)
    called = _names_of([(names, [model, targets] if several[names] > 1 else []) for names, model, targets in grouped])
    return [
        Batch(
            called[number],
            model,
            datasets[model],
            targets,
            [work[key] for key in keys],
            names,
        )
        for number, ((names, model, targets), keys) in enumerate(grouped.items())
    ]


def _names_of(batches: Sequence[tuple[tuple[str, ...], list[str]]]) -> list[str]:
    """Names of batches, of their tables and what else tells them apart; where that is long or taken, with a hash."""
    found: list[str] = []
    for tables, more in batches:
        name = "_".join(["_and_".join(tables), *more])
        if len(name) > _LONGEST_NAME or name in found:
            told = hashlib.sha256(json.dumps([tables, more]).encode()).hexdigest()[:8]
            name = f"{name[: _LONGEST_NAME - 9]}_{told}"
        found.append(name)
    return found


def _work(tables: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Every attack row that is to be run: the table that asks for it, model, data set, target rule and the row."""
    for name, table in tables.items():
        if table["kind"] == "attacks":
            for row in table["rows"]:
                yield name, table["model"], table["dataset"], table["targets"], row
        elif table["kind"] == "variants":
            for line in table["rows"]:
                yield name, line["model"], line["dataset"], line["targets"], line["variant"]


def followed_tables(tables: Mapping[str, Any], figures: Mapping[str, Any]) -> set[str]:
    """The tables of attacks whose attacks are followed step by step, because something is made from that.

    Args:
        tables: name to resolved table.
        figures: name to resolved figure.
    """
    return {entry["part"]["table"] for entry in (*tables.values(), *figures.values()) if "part" in entry}


def check_length(kind: str, entries: Mapping[str, Any]) -> None:
    """Refuses entries that no rule could hand on in its command, whose length the system limits (128 kB on Linux).

    Args:
        kind: of the entries, for the message.
        entries: name to what is handed on.

    Raises:
        StudyError: one is too long.
    """
    for name, entry in entries.items():
        length = len(shlex.quote(json.dumps(entry)))
        if length > _LONGEST_ENTRY:
            raise StudyError(
                f"{kind}.{name}: would need {length} characters on a command line, of which a system allows "
                f"{_LONGEST_ENTRY}: split it"
            )
