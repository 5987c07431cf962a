"""What a study says of its models: names that point at other parts; networks, encodings and images that fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wolfe.model_choices import AS_PUBLISHED, LOSSES
from wolfe.study.errors import StudyError, allowed, check_name
from wolfe.study.sources import classes_of, image_shape, is_multi_label

# The networks that use layers of a trained one, and the networks that may have those.
_BOTTOMS = {"vgg16_ensemble": ("vgg16",), "frozen_features": ("vgg16", "inception_v3", "timm")}


def check_model(place: str, model: Mapping[str, Any], document: Mapping[str, Any]) -> None:
    """Checks one model of a study.

    Args:
        place: where it stands.
        model: its entry.
        document: a study that satisfies the schema.

    Raises:
        StudyError: the first problem found.
    """
    check_name(f"{place}.dataset", "dataset", model["dataset"], document["datasets"])
    dataset = document["datasets"][model["dataset"]]
    _check_bottom(place, model, document)
    _check_published(place, model, dataset)
    kind = model["encoding"]["kind"]
    if model["loss"] not in LOSSES[kind]:
        fitting = ", ".join(LOSSES[kind])
        raise StudyError(f"{place}.loss: {model['loss']!r} does not fit a {kind} encoding; allowed: {fitting}")
    for network in (model["network"], model["network"].get("backbone", {})):
        _check_size(place, network, model["dataset"], dataset)
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
    network = model["network"]
    name = network["name"]
    if name not in _BOTTOMS:
        if "bottom" in model:
            raise StudyError(f"{place}.bottom: only a {' or '.join(_BOTTOMS)} has one, not {name}")
        return
    backbone = network.get("backbone") or {}
    if network.get("projection") and backbone.get("name") != "timm":
        raise StudyError(f"{place}.network.projection: only a backbone of timm's that is described here can have one")
    fits, instead = _BOTTOMS[name], "backbone" if name == "frozen_features" else "weights"
    if network.get(instead):
        if "bottom" in model:
            raise StudyError(f"{place}.bottom: the network has {instead} that are published; give it one of the two")
        return
    if "bottom" not in model:
        raise StudyError(f"{place}: 'bottom' is missing: {name} uses the layers of a trained {' or '.join(fits)}")
    fitting = {key: entry for key, entry in document["models"].items() if entry["network"]["name"] in fits}
    check_name(f"{place}.bottom", f"{' or '.join(fits)} model", model["bottom"], fitting)
    bottom = fitting[model["bottom"]]
    own, other = (document["datasets"].get(entry["dataset"]) for entry in (model, bottom))
    if other and image_shape(own) != image_shape(other):
        raise StudyError(f"{place}.bottom: {model['bottom']} takes images of another shape than {model['dataset']}")
    if name == "vgg16_ensemble":
        _check_layers(place, network, model["bottom"], bottom["network"])


def _check_layers(place: str, network: Mapping[str, Any], bottom: str, below: Mapping[str, Any]) -> None:
    """An ensemble shares layers, so it must have the same; its branches too where they begin with the bottom's."""
    for option, usual in (("width", 1), ("batch_norm", True)):
        own, other = network.get(option, usual), below.get(option, usual)
        if own != other:
            raise StudyError(f"{place}.network.{option}: must be that of the bottom {bottom}, {other}, not {own}")
    width, branch = network.get("width", 1), network.get("branch_width")
    if network.get("branches_from_bottom") and branch not in (None, width):
        raise StudyError(f"{place}.network.branch_width: branches_from_bottom needs {width}, the width, not {branch}")


def _check_published(place: str, model: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    """Published weights: of colour images, for the published network, under what they can tell."""
    network = model["network"]
    whole = network.get("backbone", network)
    published = whole.get("weights") or whole.get("pretrained")
    if "backbone" in network:
        _check_backbone(f"{place}.network.backbone", whole, bool(published))
    if model["training"]["epochs"] == 0 and (not published or network["name"] in _BOTTOMS):
        raise StudyError(
            f"{place}.training.epochs: 0 takes published weights as they are; {network['name']} has none here"
        )
    if not published:
        return
    if image_shape(dataset)[0] != 3:
        raise StudyError(f"{place}.network: published weights take colour images; those of {model['dataset']} are grey")
    name = whole["name"]
    for option, value in AS_PUBLISHED.get(name, {}).items():
        if whole.get(option, value) != value:
            raise StudyError(
                f"{place}.network.{option}: published weights are of a {name} with {value}, not {whole[option]}"
            )


def _check_backbone(place: str, backbone: Mapping[str, Any], published: bool) -> None:
    fits = _BOTTOMS["frozen_features"]
    if backbone["name"] not in fits:
        raise StudyError(f"{place}.name: {allowed(backbone['name'], fits)}")
    if not published:
        raise StudyError(f"{place}: needs published weights (weights, pretrained); for a trained model use bottom")


def _check_size(place: str, network: Mapping[str, Any], name: str, dataset: Mapping[str, Any]) -> None:
    kind, (_, size) = network.get("name", ""), image_shape(dataset)
    needed = ""
    if kind.startswith("vgg16") and size % 32:
        needed = "a multiple of 32"
    elif kind == "alexnet" and size < (29 if network.get("small_images") else 63):
        needed = "at least 63, or 29 with small_images"
    elif kind == "inception_v3" and size < (29 if network.get("small_images") else 75):
        needed = "at least 75, or 29 with small_images"
    if needed:
        raise StudyError(
            f"{place}.network.name: {kind} halves an image five times; the size of dataset {name} must be {needed}, "
            f"not {size}"
        )
