"""Tables that are made from other tables and experiments: variants of rows, analyses, transfer, detection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from wolfe.study.experiments import SHOWN, table_part
from wolfe.study.rows import parameters_of, slug
from wolfe.study.transfers import transfer_runs

_SUB_TABLE = re.compile(r"(.*[0-9])[a-z]")
FOLLOWING = ("losses", "losses_claims")
"""Kinds of tables that follow the attacks of one table step by step."""
_OF_THE_TABLE = ("model", "dataset", "targets", "rule", "encoding", "images")


def derived_table(
    name: str,
    entry: Mapping[str, Any],
    tables: Mapping[str, dict[str, Any]],
    transfers: Mapping[str, dict[str, Any]],
    experiments: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """A table of another kind than "attacks", resolved.

    Args:
        name: its name in the study.
        entry: its entry there.
        tables: the resolved tables of attacks.
        transfers: the resolved transfers.
        experiments: the resolved experiments.

    Returns:
        `name`, `kind`, `title`, `stands_in`, and `parts` (the JMA rows of the tables that it sums up), or `rows` (for
        variants: a row of a table in `base` and what becomes of it in `variant`), or `transfers` and `levels`, or
        `experiments` (a list of one), or, for losses, `part` (see `table_part`) with `transfers` and `experiments`.
    """
    common = {"name": name, "kind": entry["kind"], "title": entry["title"], "stands_in": entry.get("stands_in", "")}
    if entry["kind"] == "variants":
        return {**common, "rows": [_variant(row, tables[row["table"]]) for row in entry["rows"]]}
    if entry["kind"] == "transfer":
        shown = [transfers[transfer] for transfer in entry["transfers"]]
        return {**common, "levels": entry.get("levels", 3), "transfers": shown}
    if entry["kind"] in SHOWN:
        return {**common, "experiments": [experiments[entry["experiment"]]]}
    if entry["kind"] in FOLLOWING:
        added = {
            "transfers": [transfers[entry["transfer"]]] if "transfer" in entry else [],
            "experiments": [experiments[entry["experiment"]]] if "experiment" in entry else [],
        }
        return {**common, "part": table_part(tables[entry["table"]]), **added}
    return {**common, "parts": [_part(tables[table]) for table in entry["tables"]]}


def _part(table: Mapping[str, Any]) -> dict[str, Any]:
    rows = [row for row in table["rows"] if row["attack"] == "jma"]
    return {"table": table["name"], "title": table["title"], **{key: table[key] for key in _OF_THE_TABLE}, "rows": rows}


def _variant(entry: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    base = next(row for row in table["rows"] if row["label"] == entry["of"])
    changed = parameters_of({"attack": base["attack"], **base["parameters"], **entry["change"]})
    variant = {
        **base,
        "slug": slug(base["attack"], changed, base["images"]),
        "parameters": changed,
        "asked": changed,
        "published": None,
    }
    return {
        "table": table["name"],
        **{key: table[key] for key in _OF_THE_TABLE},
        "difference": entry["difference"],
        "base": base,
        "variant": variant,
    }


def group_tables(names: Iterable[str]) -> dict[str, list[str]]:
    """Sub-tables by the number that they share: jma_10 to jma_10a, jma_10b and jma_10c.

    Names that are a table of their own are no group.
    """
    names = list(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        number = _SUB_TABLE.fullmatch(name)
        if number and number.group(1) not in names:
            groups.setdefault(number.group(1), []).append(name)
    return groups


def rows_needed(table: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The attack rows that a resolved table sums up.

    Args:
        table: of any kind.

    Returns:
        Model, target rule and row, each once; of rows whose transfer is shown only the slug. None for a table that
        shows an experiment.
    """
    if table["kind"] == "attacks":
        found = [(table["model"], table["targets"], row) for row in table["rows"]]
    elif table["kind"] == "variants":
        pairs = [(line, line[which]) for line in table["rows"] for which in ("base", "variant")]
        found = [(line["model"], line["targets"], row) for line, row in pairs]
    elif table["kind"] == "transfer":
        runs = [run for transfer in table["transfers"] for run in transfer_runs(transfer)]
        found = [(model, targets, {"slug": name}) for model, targets, name in runs]
    else:
        parts = table.get("parts", [table["part"]] if "part" in table else [])
        found = [(part["model"], part["targets"], row) for part in parts for row in part["rows"]]
    return list({(model, targets, row["slug"]): (model, targets, row) for model, targets, row in found}.values())
