"""What the schema cannot see: names that point at other parts of a study, and parts that do not fit together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wolfe.study.derived_references import check_derived, is_of_attacks
from wolfe.study.errors import StudyError, allowed, check_name
from wolfe.study.published_rows import check_published_row, published_lines
from wolfe.study.rows import canonical, label_of, parameters_of
from wolfe.study.sources import check_source, classes_of, image_shape, images_to_attack, is_multi_label

_LOSSES = {"one_hot": "cross_entropy", "codebook": "hinge", "multi_label": "binary_cross_entropy"}
# The networks that use layers of a trained one, and the networks that may have those.
_BOTTOMS = {"vgg16_ensemble": ("vgg16",), "frozen_features": ("vgg16", "inception_v3", "timm")}
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
        _check_model(f"models.{name}", model, document)
    for name, table in document["tables"].items():
        if is_of_attacks(table):
            _check_table(f"tables.{name}", table, document, published)
    check_derived(document)
    _check_budgets("limits.budgets", document.get("limits", {}).get("budgets", []))


def _check_model(place: str, model: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    check_name(f"{place}.dataset", "dataset", model["dataset"], document["datasets"])
    _check_bottom(place, model, document)
    network = model["network"]
    if model["training"]["epochs"] == 0 and not (network.get("weights") or network.get("pretrained")):
        raise StudyError(
            f"{place}.training.epochs: 0 takes published weights as they are; {network['name']} has none here"
        )
    kind = model["encoding"]["kind"]
    if model["loss"] != _LOSSES[kind]:
        raise StudyError(f"{place}.loss: {model['loss']!r} does not fit a {kind} encoding; allowed: {_LOSSES[kind]}")
    dataset = document["datasets"][model["dataset"]]
    _check_size(place, model, dataset)
    length, classes = model["encoding"].get("length", 0), classes_of(dataset)
    if kind == "codebook" and (length < classes or length & (length - 1)):
        raise StudyError(
            f"{place}.encoding.length: must be a power of two and at least {classes} (the classes), not {length}"
        )
    if (kind == "multi_label") != is_multi_label(dataset):
        choices = ["multi_label"] if is_multi_label(dataset) else ["one_hot", "codebook"]
        images = f"{dataset['source']} images"
        raise StudyError(f"{place}.encoding.kind: {kind!r} does not fit the {images}; {allowed(kind, choices)}")


def _check_bottom(place: str, model: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    network = model["network"]["name"]
    if network not in _BOTTOMS:
        if "bottom" in model:
            raise StudyError(f"{place}.bottom: only a {' or '.join(_BOTTOMS)} has one, not {network}")
        return
    fits = _BOTTOMS[network]
    if "bottom" not in model:
        raise StudyError(f"{place}: 'bottom' is missing: {network} uses the layers of a trained {' or '.join(fits)}")
    fitting = {key: entry for key, entry in document["models"].items() if entry["network"]["name"] in fits}
    check_name(f"{place}.bottom", f"{' or '.join(fits)} model", model["bottom"], fitting)
    own, other = (document["datasets"].get(name) for name in (model["dataset"], fitting[model["bottom"]]["dataset"]))
    if other and image_shape(own) != image_shape(other):
        raise StudyError(f"{place}.bottom: {model['bottom']} takes images of another shape than {model['dataset']}")


def _check_size(place: str, model: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    network, (_, size) = model["network"], image_shape(dataset)
    needed = ""
    if network["name"].startswith("vgg16") and size % 32:
        needed = "a multiple of 32"
    elif network["name"] == "alexnet" and size < (29 if network.get("small_images") else 63):
        needed = "at least 63, or 29 with small_images"
    elif network["name"] == "inception_v3" and size < (29 if network.get("small_images") else 75):
        needed = "at least 75, or 29 with small_images"
    if needed:
        raise StudyError(
            f"{place}.network.name: {network['name']} halves an image five times; the size of dataset "
            f"{model['dataset']} must be {needed}, not {size}"
        )


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
