"""Transfers of a study: classifiers with the same labels, asked about the images of attacks on each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wolfe.study.errors import StudyError, allowed, check_name


def check_transfers(document: Mapping[str, Any], attack_tables: Mapping[str, Any]) -> None:
    """Checks the sets of classifiers that are asked about each other's images.

    Args:
        document: a study whose models and tables of attacks are right.
        attack_tables: its tables of attacks.

    Raises:
        StudyError: the first problem found.
    """
    for name, entry in document.get("transfers", {}).items():
        place, models = f"transfers.{name}", entry["models"]
        for index, model in enumerate(models):
            check_name(f"{place}.models[{index}]", "model", model, document["models"])
            _check_labels(f"{place}.models[{index}]", model, models[0], document["models"])
        fitting = {key: table for key, table in attack_tables.items() if table["model"] in models}
        for index, table in enumerate(entry.get("tables", [])):
            check_name(f"{place}.tables[{index}]", "table of attacks on these models", table, fitting)
        if not fitting:
            raise StudyError(f"{place}.models: no table attacks any of them, so there is nothing to transfer")


def _check_labels(place: str, model: str, first: str, models: Mapping[str, Any]) -> None:
    own, others = models[model]["dataset"], models[first]["dataset"]
    if own != others:
        same = [name for name, entry in models.items() if entry["dataset"] == others]
        raise StudyError(
            f"{place}: {model} has the labels of {own}, {first} those of {others}; transfer needs the same ones; "
            f"{allowed(model, same)}"
        )


def check_transfer_table(place: str, table: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Checks that the transfers are there that a table shows."""
    for index, name in enumerate(table["transfers"]):
        check_name(f"{place}.transfers[{index}]", "transfer", name, document.get("transfers", {}))


def resolved_transfers(document: Mapping[str, Any], tables: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The transfers of a study, ready to run.

    Args:
        document: a valid study.
        tables: the resolved tables of attacks.

    Returns:
        Name to `name`, `dataset`, `models` (each with `name` and the kind of its `encoding`), and `tables`: for each
        table of attacks on one of the models `table`, `model`, `targets` and `attacks` (each with `attack`, for
        gradient steps with their loss, and the `slugs` of its rows). Lists, not maps, because the order counts and
        JSON need not keep it.
    """
    transfers = {}
    for name, entry in document.get("transfers", {}).items():
        models = [
            {"name": model, "encoding": document["models"][model]["encoding"]["kind"]} for model in entry["models"]
        ]
        chosen = entry.get("tables", list(tables))
        shown = [_table(table) for key, table in tables.items() if key in chosen and table["model"] in entry["models"]]
        dataset = document["models"][entry["models"][0]]["dataset"]
        transfers[name] = {"name": name, "dataset": dataset, "models": models, "tables": shown}
    return transfers


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    attacks: dict[str, list[str]] = {}
    for row in table["rows"]:
        # Gradient steps on different losses are different attacks.
        loss = f"_{row['parameters'].get('loss', 'cross_entropy')}" if row["attack"] == "gradient" else ""
        slugs = attacks.setdefault(row["attack"] + loss, [])
        # A cut budget can make one run of several rows.
        slugs += [row["slug"]] if row["slug"] not in slugs else []
    rows = [{"attack": attack, "slugs": slugs} for attack, slugs in attacks.items()]
    return {"table": table["name"], "model": table["model"], "targets": table["targets"], "attacks": rows}


def transfer_runs(transfer: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The attack runs that a resolved transfer asks about: model, target rule and slug, each once."""
    return list(
        dict.fromkeys(
            (table["model"], table["targets"], slug)
            for table in transfer["tables"]
            for rows in table["attacks"]
            for slug in rows["slugs"]
        )
    )
