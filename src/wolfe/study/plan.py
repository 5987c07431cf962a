"""A study made ready: tables resolved row by row, and the attack jobs that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wolfe.study.document import PUBLISHED_FOLDER, check_unique_keys, plain, read_document
from wolfe.study.references import check_references
from wolfe.study.rows import budgets_of, canonical, cut, default_label, parameters_of, slug
from wolfe.study.validation import validate

_LIMITS: dict[str, Any] = {"device": "auto", "images": 32, "shard_size": 32, "batch_size": 32, "threads": None}


@dataclass(frozen=True)
class Batch:
    """The rows that one process attacks with.

    Attributes:
        name: the tables that use them, joined by "_and_"; unique in a study.
        model: the model's name.
        dataset: its data set's name.
        targets: the name of the target rule with its parameters.
        rows: `{"slug", "attack", "parameters"}`, each piece of work once.
        tables: the tables that use every one of these rows.
    """

    name: str
    model: str
    dataset: str
    targets: str
    rows: list[dict[str, Any]]
    tables: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A valid study, resolved.

    Attributes:
        name: the study's name.
        title: its title, the name where it has none.
        seed: the seed of every random draw.
        limits: device, images, shard_size, batch_size, threads.
        datasets: name to the study's entry.
        models: name to the study's entry.
        targets: (model, name of the target rule) to the rule with its parameters.
        tables: name to the resolved table, plain values for JSON.
        figures: name to the resolved figure; its `table` is the resolved table, its `rows` are slugs.
        batches: the attack jobs.
    """

    name: str
    title: str
    seed: int
    limits: dict[str, Any]
    datasets: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    targets: dict[tuple[str, str], dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    figures: dict[str, dict[str, Any]]
    batches: list[Batch]

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], files: list[str] | None = None, published: Path = PUBLISHED_FOLDER
    ) -> Study:
        """Validates and resolves a study.

        Args:
            config: the study as a map, e.g. Snakemake's `config`.
            files: the files that it came from, read again to refuse keys given twice.
            published: the folder of the published tables.

        Raises:
            StudyError: the study is wrong; one line that names the key and what is allowed.
        """
        check_unique_keys(files or [])
        document = plain(config)
        validate(document)
        check_references(document, published)
        limits = {**_LIMITS, **document.get("limits", {})}
        tables = {name: _table(name, entry, document, limits) for name, entry in document["tables"].items()}
        return cls(
            name=document["study"],
            title=document.get("title", document["study"]),
            seed=document["seed"],
            limits={name: limits[name] for name in _LIMITS},
            datasets=document["datasets"],
            models=document["models"],
            targets=_targets(document, limits),
            tables=tables,
            figures={name: _figure(name, entry, tables) for name, entry in document.get("figures", {}).items()},
            batches=_batches(tables),
        )

    def report_spec(self) -> dict[str, Any]:
        """What the report needs to know: names, models, tables and figures (which name their table)."""
        figures = [{**figure, "table": figure["table"]["name"]} for figure in self.figures.values()]
        return {
            "study": self.name,
            "title": self.title,
            "models": self.models,
            "tables": list(self.tables.values()),
            "figures": figures,
        }


def load_study(path: Path, published: Path = PUBLISHED_FOLDER) -> Study:
    """Reads, validates and resolves the study in a YAML file.

    Raises:
        StudyError: see `Study.from_config`; the message begins with the file's name if it cannot be read.
    """
    return Study.from_config(read_document(path), published=published)


def _rule(table: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """A target rule with everything that decides which images are attacked and towards what."""
    return {"only_correct": True, **table["targets"], "images": table.get("images", limits["images"])}


def _rule_name(rule: Mapping[str, Any], limits: Mapping[str, Any]) -> str:
    """A file name for a target rule; what is usual in the study is left out."""
    parts = [rule["rule"]]
    parts += [str(rule["bits"])] if "bits" in rule else []
    parts += ["any"] if not rule["only_correct"] else []
    parts += [f"{rule['images']}_images"] if rule["images"] != limits["images"] else []
    return "_".join(parts)


def _targets(document: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    rules = [(table["model"], _rule(table, limits)) for table in document["tables"].values()]
    return {(model, _rule_name(rule, limits)): rule for model, rule in rules}


def _table(name: str, table: Mapping[str, Any], document: Mapping[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    model = document["models"][table["model"]]
    rule = _rule(table, limits)
    bound = [row["attack"] for row in table["rows"] if row.get("origin", "paper") == "paper"]
    budgets = budgets_of(limits.get("budgets", []), table.get("budgets", []), bound)
    return {
        "name": name,
        "title": table["title"],
        "stands_in": table.get("stands_in", ""),
        "model": table["model"],
        "dataset": model["dataset"],
        "targets": _rule_name(rule, limits),
        "rule": rule,
        "images": rule["images"],
        "encoding": model["encoding"]["kind"],
        "published": table.get("published"),
        "budgets": budgets,
        "rows": [_row(row, budgets) for row in table["rows"]],
    }


def _row(row: Mapping[str, Any], budgets: list[dict[str, Any]]) -> dict[str, Any]:
    asked = parameters_of(row)
    origin = row.get("origin", "paper")
    effective = asked if origin == "ours" else cut(row["attack"], asked, budgets)
    return {
        "slug": slug(row["attack"], effective),
        "attack": row["attack"],
        "label": row.get("label") or default_label(row),
        "parameters": effective,
        "asked": asked,
        "origin": origin,
        "cut": effective != asked,
        "published": row.get("published"),
    }


def _figure(name: str, figure: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    table = tables[figure["table"]]
    slugs = {row["label"]: row["slug"] for row in table["rows"]}
    return {
        "name": name,
        "title": figure["title"],
        "kind": figure.get("kind", "examples"),
        "image": figure.get("image"),
        "table": table,
        "rows": [slugs[label] for label in figure.get("rows", [])] or None,
    }


def candidate_slugs(figure: Mapping[str, Any]) -> list[str]:
    """The rows that a resolved figure may show: those it names, else all of its table."""
    return figure["rows"] or [row["slug"] for row in figure["table"]["rows"]]


def _batches(tables: Mapping[str, dict[str, Any]]) -> list[Batch]:
    """Groups rows by the exact set of tables that use them: a table's jobs run what it needs and nothing twice."""
    users: dict[tuple[str, str, str], list[str]] = {}
    work: dict[tuple[str, str, str], dict[str, Any]] = {}
    for name, table in tables.items():
        for row in table["rows"]:
            key = (table["model"], table["targets"], row["slug"])
            tables_of = users.setdefault(key, [])
            tables_of += [name] if name not in tables_of else []
            parameters = canonical(row["attack"], row["parameters"])
            work.setdefault(key, {"slug": row["slug"], "attack": row["attack"], "parameters": parameters})
    grouped: dict[tuple[str, ...], list[tuple[str, str, str]]] = {}
    for key, names in users.items():
        grouped.setdefault(tuple(names), []).append(key)
    return [
        Batch("_and_".join(names), model, tables[names[0]]["dataset"], rule, [work[key] for key in keys], names)
        for names, keys in grouped.items()
        for model, rule, _ in keys[:1]
    ]
