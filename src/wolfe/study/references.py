"""What the schema cannot see: names that point at other parts of a study, and parts that do not fit together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wolfe.study.derived_references import check_derived, is_of_attacks
from wolfe.study.errors import StudyError, allowed, check_name
from wolfe.study.model_checks import check_model
from wolfe.study.published_rows import check_published_row, published_lines
from wolfe.study.rows import canonical, label_of, parameters_of
from wolfe.study.sources import check_source, classes_of, images_to_attack

SERVES = {
    "over_optimised": ("one_hot",),
    "multi_class_optimised": ("one_hot",),
    "ecoc_attack": ("codebook",),
    "ml_deepfool": ("multi_label", "codebook"),
    "mla_lp": ("multi_label", "codebook"),
    "sema_ml": ("multi_label",),
}
"""Encodings of the attacks that do not serve them all."""
# Averages need images of the target, which flipped or empty label vectors need not have.
_RULES_WITH_EXAMPLES = ("other_class", "training_labels")


def check_references(document: Mapping[str, Any], published: Path) -> None:
    """Checks what one part of a study says of another.

    Args:
        document: a study that satisfies the schema.
        published: the folder of the published tables.

    Raises:
        StudyError: the first problem found, from the data sets down to the figures.
    """
    for name, dataset in document["datasets"].items():
        check_source(f"datasets.{name}", dataset)
        if dataset.get("single_label") and dataset.get("hierarchy"):
            raise StudyError(f"datasets.{name}.hierarchy: does not go with single_label, which allows one label each")
    for name, model in document["models"].items():
        check_model(f"models.{name}", model, document)
    for name, table in document["tables"].items():
        if is_of_attacks(table):
            _check_table(f"tables.{name}", table, document, published)
    check_derived(document)
    _check_budgets("limits.budgets", document.get("limits", {}).get("budgets", []))


def _check_table(place: str, table: Mapping[str, Any], document: Mapping[str, Any], published: Path) -> None:
    check_name(f"{place}.model", "model", table["model"], document["models"])
    kind = document["models"][table["model"]]["encoding"]["kind"]
    rule = table["targets"]["rule"]
    if (kind == "multi_label") == (rule == "other_class"):
        choices = ["training_labels", "flip_bits", "all_off"] if kind == "multi_label" else ["other_class"]
        raise StudyError(f"{place}.targets.rule: {rule!r} does not fit the {kind} model; {allowed('', choices)}")
    _check_counts(place, table, document)
    lines = published_lines(place, table, published)
    for index, row in enumerate(table["rows"]):
        _check_row(f"{place}.rows[{index}]", row, kind, rule)
        check_published_row(f"{place}.rows[{index}]", row, table, lines)
    _check_duplicates(place, table["rows"])
    _check_budgets(f"{place}.budgets", table.get("budgets", []))


def _check_counts(place: str, table: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    dataset = document["datasets"][document["models"][table["model"]]["dataset"]]
    labels, test = classes_of(dataset), images_to_attack(dataset)
    bits = table["targets"].get("bits", 0)
    if bits > labels:
        raise StudyError(f"{place}.targets.bits: must be at most {labels} (the labels), not {bits}")
    for where, images in (
        (f"{place}.images", table.get("images")),
        ("limits.images", document.get("limits", {}).get("images")),
    ):
        if images is not None and images > test:
            raise StudyError(f"{where}: must be at most {test} (the test images of {place}), not {images}")


def _check_row(place: str, row: Mapping[str, Any], kind: str, rule: str) -> None:
    serves = SERVES.get(row["attack"], (kind,))
    if kind not in serves:
        raise StudyError(f"{place}.attack: {row['attack']} needs a {' or '.join(serves)} model, not a {kind} one")
    if row["attack"] == "lots" and rule not in _RULES_WITH_EXAMPLES:
        needed = " or ".join(_RULES_WITH_EXAMPLES)
        raise StudyError(f"{place}.attack: lots averages images of the target, which {rule} lacks; use {needed}")


def _check_duplicates(place: str, rows: list[dict[str, Any]]) -> None:
    works: dict[str, int] = {}
    labels: dict[str, int] = {}
    for index, row in enumerate(rows):
        work = json.dumps([row["attack"], canonical(row["attack"], parameters_of(row))], sort_keys=True)
        label = label_of(row)
        if work in works:
            raise StudyError(f"{place}.rows[{index}]: duplicate of rows[{works[work]}] (same attack and parameters)")
        if label in labels:
            raise StudyError(f"{place}.rows[{index}].label: {label!r} is the label of rows[{labels[label]}] already")
        works[work] = labels[label] = index


def _check_budgets(place: str, budgets: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for index, budget in enumerate(budgets):
        for attack in budget["attacks"]:
            if attack in seen:
                raise StudyError(f"{place}[{index}].attacks: {attack!r} has a budget already; give each attack one")
            seen.add(attack)
