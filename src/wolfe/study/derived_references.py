"""What tables made from others, and figures, say of the tables of attacks: whether it is there and fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from wolfe.study.derived import FOLLOWING
from wolfe.study.document import limits_of
from wolfe.study.errors import StudyError, allowed, check_name
from wolfe.study.experiments import SHOWN, check_experiments, check_shown, check_stepped
from wolfe.study.rows import canonical, label_of, parameters_of
from wolfe.study.transfers import check_transfer_table, check_transfers
from wolfe.study.validation import validate_row


def check_derived(document: Mapping[str, Any]) -> None:
    """Checks the transfers, the experiments, the tables that are not of attacks, and the figures.

    Args:
        document: a study whose models and tables of attacks are right.

    Raises:
        StudyError: the first problem found.
    """
    check_transfers(document, _attack_tables(document))
    check_experiments(document, _attack_tables(document))
    for name, table in document["tables"].items():
        if table.get("kind") == "variants":
            _check_variants(f"tables.{name}", table, document)
        elif table.get("kind") == "transfer":
            check_transfer_table(f"tables.{name}", table, document)
        elif table.get("kind") in SHOWN:
            check_shown(f"tables.{name}", table, document)
        elif table.get("kind") in FOLLOWING:
            check_stepped(f"tables.{name}", table, document, _attack_tables(document))
        elif not is_of_attacks(table):
            _check_summed(f"tables.{name}", table, document)
    for name, figure in document.get("figures", {}).items():
        _check_figure(f"figures.{name}", figure, document)


def is_of_attacks(table: Mapping[str, Any]) -> bool:
    """Whether a table of a study has attack rows of its own."""
    return bool(table.get("kind", "attacks") == "attacks")


def _attack_tables(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: table for name, table in document["tables"].items() if is_of_attacks(table)}


def _check_variants(place: str, table: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    works: dict[str, int] = {}
    for index, variant in enumerate(table["rows"]):
        here = f"{place}.rows[{index}]"
        check_name(f"{here}.table", "table of attacks", variant["table"], _attack_tables(document))
        of_table = document["tables"][variant["table"]]
        rows = {label_of(row): row for row in of_table["rows"]}
        if variant["of"] not in rows:
            raise StudyError(
                f"{here}.of: table {variant['table']} has no row {variant['of']!r}; {allowed(variant['of'], rows)}"
            )
        base = rows[variant["of"]]
        changed = {**parameters_of(base), **variant["change"]}
        validate_row({"attack": base["attack"], **changed}, f"{here}.change")
        if canonical(base["attack"], changed) == canonical(base["attack"], parameters_of(base)):
            raise StudyError(f"{here}.change: changes nothing of {variant['of']!r}")
        work = json.dumps([variant["table"], variant["of"], variant["change"]], sort_keys=True)
        if work in works:
            raise StudyError(f"{here}: duplicate of rows[{works[work]}] (same row, same change)")
        works[work] = index


def _check_summed(place: str, table: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    for index, name in enumerate(table["tables"]):
        check_name(f"{place}.tables[{index}]", "table of attacks", name, _attack_tables(document))
        if not any(row["attack"] == "jma" for row in document["tables"][name]["rows"]):
            raise StudyError(f"{place}.tables[{index}]: table {name} has no row of jma, which this table sums up")


def _check_figure(place: str, figure: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    if figure.get("kind") == "geometry":
        _check_geometry(place, figure, document)
        return
    if figure.get("kind") == "transfer":
        shown = {name: table for name, table in document["tables"].items() if table.get("kind") == "transfer"}
        check_name(f"{place}.table", "table of transfer", figure["table"], shown)
        return
    if figure.get("kind") in SHOWN:
        check_shown(place, figure, document)
        return
    if figure.get("kind") == "losses":
        check_stepped(place, figure, document, _attack_tables(document))
        return
    if ("parts" in figure) == ("table" in figure):
        raise StudyError(f"{place}: give either 'table' (with rows, image, images) or 'parts'")
    for index, part in enumerate(figure.get("parts", [figure])):
        _check_part(f"{place}.parts[{index}]" if "parts" in figure else place, part, document)


def _check_part(place: str, part: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    check_name(f"{place}.table", "table of attacks", part["table"], _attack_tables(document))
    labels = [label_of(row) for row in document["tables"][part["table"]]["rows"]]
    for index, label in enumerate(part.get("rows", [])):
        if label not in labels:
            raise StudyError(
                f"{place}.rows[{index}]: table {part['table']} has no row {label!r}; {allowed(label, labels)}"
            )
    table = document["tables"][part["table"]]
    most = table.get("images", limits_of(document)["images"])
    if part.get("images", 1) > most:
        raise StudyError(
            f"{place}.images: must be at most {most} (the images of {part['table']}), not {part['images']}"
        )
    if part.get("image") and part.get("images", 1) > 1:
        raise StudyError(f"{place}.images: must be 1 where 'image' names the one to show")


def _check_geometry(place: str, figure: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    check_name(f"{place}.table", "table of attacks", figure["table"], _attack_tables(document))
    model = document["tables"][figure["table"]]["model"]
    kind = document["models"][model]["encoding"]["kind"]
    if kind != "multi_label":
        raise StudyError(f"{place}.table: the geometry of two labels needs a multi_label model, not a {kind} one")
