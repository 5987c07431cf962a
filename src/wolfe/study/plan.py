"""A study made ready: tables resolved row by row, and the attack jobs that they need."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wolfe.files import content_checksum
from wolfe.study.derived import derived_table, group_tables
from wolfe.study.derived_references import is_of_attacks
from wolfe.study.document import PUBLISHED_FOLDER, check_unique_keys, limits_of, merged, plain, read_document
from wolfe.study.errors import StudyError
from wolfe.study.experiments import SHOWN, resolved_experiments, table_part
from wolfe.study.references import check_references
from wolfe.study.roots import with_roots, without_roots
from wolfe.study.rows import budgets_of, canonical, resolved_row
from wolfe.study.transfers import resolved_transfers
from wolfe.study.validation import validate

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


@dataclass(frozen=True)
class Study:
    """A valid study, resolved.

    Attributes:
        name: the study's name.
        title: its title, the name where it has none.
        seed: the seed of every random draw.
        limits: device, images, shard_size, batch_size, images_per_job, time_limit, threads, calibrate, resources.
        datasets: name to the study's entry.
        models: name to the study's entry.
        targets: (model, name of the target rule) to the rule with its parameters.
        transfers: name to the classifiers that are asked about each other's images, and the tables of these.
        experiments: name to what is measured beside the attacks; its `kind` says what.
        tables: name to the resolved table, plain values for JSON; its `kind` says what it is made of.
        groups: a table's number to its sub-tables (jma_10 to jma_10a, jma_10b, ...).
        figures: name to the resolved figure; tables in it are resolved tables, rows are slugs.
        batches: the attack jobs.
    """

    name: str
    title: str
    seed: int
    limits: dict[str, Any]
    datasets: dict[str, dict[str, Any]]
    models: dict[str, dict[str, Any]]
    targets: dict[tuple[str, str], dict[str, Any]]
    transfers: dict[str, dict[str, Any]]
    experiments: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    groups: dict[str, list[str]]
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
        document = with_roots(document)
        check_references(document, published)
        limits = limits_of(document)
        entries = document["tables"]
        own = {name: _table(name, entry, document, limits) for name, entry in entries.items() if is_of_attacks(entry)}
        transfers = resolved_transfers(document, own)
        experiments = resolved_experiments(document, own)
        made_from = (own, transfers, experiments)
        tables = {name: own.get(name) or derived_table(name, entry, *made_from) for name, entry in entries.items()}
        figures = {
            name: _figure(name, entry, tables, experiments) for name, entry in document.get("figures", {}).items()
        }
        batches = _batches(tables, _followed(tables, figures))
        rows = {name: [batch.rows for batch in batches if name in batch.tables] for name in tables}
        for kind, parts in (("tables", tables), ("figures", figures), ("experiments", experiments), ("tables", rows)):
            _check_length(kind, parts)
        return cls(
            name=document["study"],
            title=document.get("title", document["study"]),
            seed=document["seed"],
            limits={name: value for name, value in limits.items() if name != "budgets"},
            datasets=document["datasets"],
            models=document["models"],
            targets={(table["model"], table["targets"]): table["rule"] for table in own.values()},
            transfers=transfers,
            experiments=experiments,
            tables=tables,
            groups=group_tables(tables),
            figures=figures,
            batches=batches,
        )

    def report_spec(self) -> dict[str, Any]:
        """The whole study for the report and for who checks results: figures name their tables, `sha256` is its own."""
        content = {
            "study": self.name,
            "title": self.title,
            "seed": self.seed,
            "limits": self.limits,
            "datasets": self.datasets,
            "models": self.models,
            "transfers": self.transfers,
            "experiments": self.experiments,
            "tables": list(self.tables.values()),
            "figures": [_by_name(figure) for figure in self.figures.values()],
        }
        told: dict[str, Any] = without_roots(content)
        return told | {"sha256": content_checksum(told)}


def load_study(*paths: Path, published: Path = PUBLISHED_FOLDER) -> Study:
    """Reads, validates and resolves the study in a YAML file, or in several of which each adds to those before it.

    Raises:
        StudyError: see `Study.from_config`; the message begins with the file's name if it cannot be read.
    """
    document: dict[str, Any] = {}
    for path in paths:
        document = merged(document, read_document(path))
    return Study.from_config(document, published=published)


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


def _table(name: str, table: Mapping[str, Any], document: Mapping[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    model = document["models"][table["model"]]
    rule = _rule(table, limits)
    bound = [row["attack"] for row in table["rows"] if row.get("origin", "paper") == "paper"]
    budgets = budgets_of(limits.get("budgets", []), table.get("budgets", []), bound)
    return {
        "name": name,
        "kind": "attacks",
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
        "time_limit": limits["time_limit"],
        "rows": [resolved_row(row, budgets, rule["images"]) for row in table["rows"]],
    }


def _figure(
    name: str, figure: Mapping[str, Any], tables: Mapping[str, Any], experiments: Mapping[str, Any]
) -> dict[str, Any]:
    common = {"name": name, "title": figure["title"], "kind": figure.get("kind", "examples")}
    if common["kind"] == "geometry":
        return {**common, "table": tables[figure["table"]], "labels": figure.get("labels")}
    if common["kind"] == "transfer":
        return {**common, "table": tables[figure["table"]]}
    options = {key: value for key, value in figure.items() if key not in (*common, "table", "experiment")}
    if common["kind"] in SHOWN:
        return {**common, **options, "experiment": experiments[figure["experiment"]]}
    if common["kind"] == "losses":
        return {**common, **options, "part": table_part(tables[figure["table"]])}
    return {**common, "parts": [_part(f"figures.{name}", part, tables) for part in figure.get("parts", [figure])]}


def _part(place: str, part: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    table = tables[part["table"]]
    slugs = {row["label"]: row["slug"] for row in table["rows"]}
    shown = [row for row in table["rows"] if not part.get("rows") or row["label"] in part["rows"]]
    attacked = min(row["images"] or table["images"] for row in shown)
    if part.get("images", 1) > attacked:
        raise StudyError(
            f"{place}.images: must be at most {attacked} (the images that every row shown attacks), "
            f"not {part['images']}"
        )
    if part.get("image") and attacked < table["images"]:
        raise StudyError(
            f"{place}.image: rows of {table['name']} attack only their first images; name rows that attack all, "
            "or no image"
        )
    return {
        "table": table,
        "rows": [slugs[label] for label in part.get("rows", [])] or None,
        "image": part.get("image"),
        "images": part.get("images", 1),
    }


def _by_name(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved figure in which tables are named, not repeated."""
    if figure["kind"] in ("geometry", "transfer"):
        return {**figure, "table": figure["table"]["name"]}
    if "parts" not in figure:
        return dict(figure)
    return {**figure, "parts": [{**part, "table": part["table"]["name"]} for part in figure["parts"]]}


def _followed(tables: Mapping[str, Any], figures: Mapping[str, Any]) -> set[str]:
    """The tables of attacks whose attacks are followed step by step, because something is made from that."""
    return {entry["part"]["table"] for entry in (*tables.values(), *figures.values()) if "part" in entry}


def candidate_slugs(part: Mapping[str, Any]) -> list[str]:
    """The rows that a part of a resolved figure may show: those it names, else all of its table."""
    return part["rows"] or [row["slug"] for row in part["table"]["rows"]]


def _batches(tables: Mapping[str, dict[str, Any]], followed: Collection[str]) -> list[Batch]:
    """Groups rows by the exact set of tables that use them: a table's jobs run what it needs and nothing twice."""
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


def _check_length(kind: str, entries: Mapping[str, Any]) -> None:
    """A rule hands an entry on in its command, whose length the system limits (128 kB on Linux)."""
    for name, entry in entries.items():
        length = len(shlex.quote(json.dumps(entry)))
        if length > _LONGEST_ENTRY:
            raise StudyError(
                f"{kind}.{name}: would need {length} characters on a command line, of which a system allows "
                f"{_LONGEST_ENTRY}: split it"
            )


def _work(tables: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Every attack row that is to be run: the table that asks for it, model, data set, target rule and the row."""
    for name, table in tables.items():
        if table["kind"] == "attacks":
            for row in table["rows"]:
                yield name, table["model"], table["dataset"], table["targets"], row
        elif table["kind"] == "variants":
            for line in table["rows"]:
                yield name, line["model"], line["dataset"], line["targets"], line["variant"]
