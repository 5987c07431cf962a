"""What the schema cannot see: names that point at other parts of a study, and parts that do not fit together."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wolfe.study.errors import StudyError, allowed
from wolfe.study.rows import canonical, default_label, parameters_of

_LOSSES = {"one_hot": "cross_entropy", "codebook": "hinge", "multi_label": "binary_cross_entropy"}
_MULTI_LABEL_SOURCES = ("scenes",)
# What the embedded sources hold: classes or labels, and test images unless the entry says otherwise.
SOURCE_SIZES = {"digits": (10, 360), "scenes": (20, 1000)}
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
    for name, model in document["models"].items():
        _check_model(f"models.{name}", model, document)
    for name, table in document["tables"].items():
        _check_table(f"tables.{name}", table, document, published)
    for name, figure in document.get("figures", {}).items():
        _check_figure(f"figures.{name}", figure, document)
    _check_budgets("limits.budgets", document.get("limits", {}).get("budgets", []))


def _check_name(place: str, noun: str, name: str, there: Mapping[str, Any]) -> None:
    if name not in there:
        raise StudyError(f"{place}: there is no {noun} {name!r}; {allowed(name, there)}")


def _check_model(place: str, model: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    _check_name(f"{place}.dataset", "dataset", model["dataset"], document["datasets"])
    ensemble = model["network"]["name"] == "vgg16_ensemble"
    if ensemble and "bottom" not in model:
        raise StudyError(f"{place}: 'bottom' is missing: an ensemble shares the first layers of a trained vgg16")
    if not ensemble and "bottom" in model:
        raise StudyError(f"{place}.bottom: only a vgg16_ensemble has one, not {model['network']['name']}")
    if ensemble:
        fitting = {key: entry for key, entry in document["models"].items() if entry["network"]["name"] == "vgg16"}
        _check_name(f"{place}.bottom", "vgg16 model", model["bottom"], fitting)
    kind = model["encoding"]["kind"]
    if model["loss"] != _LOSSES[kind]:
        raise StudyError(f"{place}.loss: {model['loss']!r} does not fit a {kind} encoding; allowed: {_LOSSES[kind]}")
    dataset = document["datasets"][model["dataset"]]
    source = dataset["source"]
    if model["network"]["name"] != "timm" and dataset.get("size", 64) % 32:
        raise StudyError(
            f"{place}.network.name: {model['network']['name']} halves an image five times; the size of dataset "
            f"{model['dataset']} must be a multiple of 32, not {dataset['size']}"
        )
    length, classes = model["encoding"].get("length", 0), SOURCE_SIZES[source][0]
    if kind == "codebook" and (length < classes or length & (length - 1)):
        raise StudyError(
            f"{place}.encoding.length: must be a power of two and at least {classes} (the classes), not {length}"
        )
    if (kind == "multi_label") != (source in _MULTI_LABEL_SOURCES):
        choices = ["multi_label"] if source in _MULTI_LABEL_SOURCES else ["one_hot", "codebook"]
        raise StudyError(f"{place}.encoding.kind: {kind!r} does not fit the {source} images; {allowed(kind, choices)}")


def _check_table(place: str, table: Mapping[str, Any], document: Mapping[str, Any], published: Path) -> None:
    _check_name(f"{place}.model", "model", table["model"], document["models"])
    kind = document["models"][table["model"]]["encoding"]["kind"]
    rule = table["targets"]["rule"]
    if (kind == "multi_label") == (rule == "other_class"):
        choices = ["training_labels", "flip_bits", "all_off"] if kind == "multi_label" else ["other_class"]
        raise StudyError(f"{place}.targets.rule: {rule!r} does not fit the {kind} model; {allowed('', choices)}")
    _check_counts(place, table, document)
    lines = _published_lines(place, table, published)
    for index, row in enumerate(table["rows"]):
        _check_row(f"{place}.rows[{index}]", row, kind, rule)
        _check_published_row(f"{place}.rows[{index}]", row, table, lines)
    _check_duplicates(place, table["rows"])
    _check_budgets(f"{place}.budgets", table.get("budgets", []))


def _check_counts(place: str, table: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    dataset = document["datasets"][document["models"][table["model"]]["dataset"]]
    labels, usual = SOURCE_SIZES[dataset["source"]]
    bits, test = table["targets"].get("bits", 0), dataset.get("test", usual)
    if bits > labels:
        raise StudyError(f"{place}.targets.bits: must be at most {labels} (the labels), not {bits}")
    for where, images in (
        (f"{place}.images", table.get("images")),
        ("limits.images", document.get("limits", {}).get("images")),
    ):
        if images is not None and images > test:
            raise StudyError(f"{where}: must be at most {test} (the test images of {place}), not {images}")


def _check_row(place: str, row: Mapping[str, Any], kind: str, rule: str) -> None:
    if row["attack"] == "ecoc_attack" and kind != "codebook":
        raise StudyError(f"{place}.attack: ecoc_attack needs a codebook model, not a {kind} one")
    if row["attack"] == "lots" and rule not in _RULES_WITH_EXAMPLES:
        needed = " or ".join(_RULES_WITH_EXAMPLES)
        raise StudyError(f"{place}.attack: lots averages images of the target, which {rule} lacks; use {needed}")


def _published_lines(place: str, table: Mapping[str, Any], published: Path) -> list[tuple[str, str]] | None:
    if "published" not in table:
        return None
    file = published / table["published"]
    if not file.is_file():
        there = sorted(item.name for item in published.glob("*.csv"))
        raise StudyError(f"{place}.published: there is no {table['published']!r}; {allowed(table['published'], there)}")
    with file.open(encoding="utf-8", newline="") as stream:
        return [(line["attack"], line["params"]) for line in csv.DictReader(stream)]


def _check_published_row(
    place: str, row: Mapping[str, Any], table: Mapping[str, Any], lines: list[tuple[str, str]] | None
) -> None:
    named = row.get("published")
    if named and row.get("origin") == "ours":
        raise StudyError(f"{place}: a row of origin 'ours' has no published numbers; drop 'published' or 'origin'")
    if named and lines is None:
        raise StudyError(f"{place}.published: the table names no published file; give the table's 'published'")
    if named and (named["attack"], named["params"]) not in (lines or []):
        there = [f"{attack} {params}" for attack, params in lines or []]
        wanted = f"{named['attack']} {named['params']}"
        raise StudyError(f"{place}.published: {table['published']} has no row {wanted!r}; {allowed(wanted, there)}")
    if lines is not None and not named and row.get("origin", "paper") == "paper":
        raise StudyError(f"{place}: a row of origin 'paper' names its 'published' row; else say 'origin: ours'")


def _check_duplicates(place: str, rows: list[dict[str, Any]]) -> None:
    works: dict[str, int] = {}
    labels: dict[str, int] = {}
    for index, row in enumerate(rows):
        work = json.dumps([row["attack"], canonical(row["attack"], parameters_of(row))], sort_keys=True)
        label = row.get("label") or default_label(row)
        if work in works:
            raise StudyError(f"{place}.rows[{index}]: duplicate of rows[{works[work]}] (same attack and parameters)")
        if label in labels:
            raise StudyError(f"{place}.rows[{index}].label: {label!r} is the label of rows[{labels[label]}] already")
        works[work] = labels[label] = index


def _check_figure(place: str, figure: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    _check_name(f"{place}.table", "table", figure["table"], document["tables"])
    labels = [row.get("label") or default_label(row) for row in document["tables"][figure["table"]]["rows"]]
    for index, label in enumerate(figure.get("rows", [])):
        if label not in labels:
            raise StudyError(
                f"{place}.rows[{index}]: table {figure['table']} has no row {label!r}; {allowed(label, labels)}"
            )


def _check_budgets(place: str, budgets: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for index, budget in enumerate(budgets):
        for attack in budget["attacks"]:
            if attack in seen:
                raise StudyError(f"{place}[{index}].attacks: {attack!r} has a budget already; give each attack one")
            seen.add(attack)
