"""A study made ready: tables resolved row by row, and the attack jobs that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wolfe.files import content_checksum
from wolfe.study.batches import Batch, batches_of, check_length, followed_tables
from wolfe.study.derived import derived_table, group_tables
from wolfe.study.derived_references import is_of_attacks
from wolfe.study.document import PUBLISHED_FOLDER, check_unique_keys, limits_of, merged, plain, read_document
from wolfe.study.experiments import resolved_experiments
from wolfe.study.figures import by_name, resolved_figure
from wolfe.study.references import check_references
from wolfe.study.roots import with_roots, without_roots
from wolfe.study.rows import budgets_of, resolved_row
from wolfe.study.transfers import resolved_transfers
from wolfe.study.validation import validate


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
            name: resolved_figure(name, entry, tables, experiments)
            for name, entry in document.get("figures", {}).items()
        }
        batches = batches_of(tables, followed_tables(tables, figures))
        rows = {name: [batch.rows for batch in batches if name in batch.tables] for name in tables}
        for kind, parts in (("tables", tables), ("figures", figures), ("experiments", experiments), ("tables", rows)):
            check_length(kind, parts)
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
            "figures": [by_name(figure) for figure in self.figures.values()],
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
