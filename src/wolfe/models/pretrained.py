"""Published weights: what a network's entry says of them, and whether their classes are the data's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wolfe.encoding import Encoding, OneHot
from wolfe.models.catalogues import CATALOGUES, check_architecture, check_timm_architecture, projected_size
from wolfe.models.weights_files import Published, Weights, located

OPTIONS = ("weights", "pretrained", "weights_file", "weights_root")
"""What of a network's entry is about its weights; the rest describes the network."""

# The names of classes differ in spelling from list to list; another order of classes agrees almost nowhere.
_AGREEMENT = 0.95
_PARTICULAR = re.compile(r"\s*\(n\d+\)$")


def without_weights(network_spec: Mapping[str, Any]) -> dict[str, Any]:
    """A network's entry without what is about its weights, or its backbone's."""
    kept = {key: value for key, value in network_spec.items() if key not in OPTIONS}
    return {**kept, "backbone": without_weights(kept["backbone"])} if "backbone" in kept else kept


def find_weights(network_spec: Mapping[str, Any]) -> Weights | None:
    """The weights that a network's entry asks for, fetched if they are nowhere; None where it asks for none.

    Args:
        network_spec: with `weights` (a name of torchvision's), or of timm with `pretrained`; `weights_file` names their
            file, `weights_root` a folder that holds it under a usual name. A head on frozen features says this in
            the entry of its `backbone`.

    Raises:
        ValueError: there are no such weights, or the file is not theirs.
        FileNotFoundError: the file is missing and cannot be fetched; the message says what to do.
    """
    known = _known_weights(network_spec)
    return None if known is None else located(network_spec.get("backbone", network_spec), known)


def check_names(network_spec: Mapping[str, Any]) -> None:
    """Refuses architectures and weights that their library does not have; nothing is fetched or built.

    Args:
        network_spec: a network's entry; one without such names is fine.

    Raises:
        ValueError: the message lists what there is.
    """
    network = network_spec.get("backbone", network_spec)
    if "architecture" in network and network.get("name") == "torchvision":
        check_architecture(network["architecture"])
    if "architecture" in network and network.get("name") == "timm":
        check_timm_architecture(network["architecture"])
    _known_weights(network_spec)
    if network_spec.get("projection"):
        projected_size(network)


def _known_weights(network_spec: Mapping[str, Any]) -> Published | None:
    """What is known of the weights that an entry asks for; None where it asks for none."""
    if "backbone" in network_spec:
        return _of_backbone(network_spec["backbone"])
    name, wanted = network_spec.get("name"), network_spec.get("weights") or network_spec.get("pretrained")
    if not wanted:
        if network_spec.get("weights_file") or network_spec.get("weights_root"):
            raise ValueError(
                "network: weights_file and weights_root say where the weights are; say also which: weights: <name> for "
                "torchvision's, pretrained: true for timm's"
            )
        return None
    if name not in CATALOGUES:
        raise ValueError(f"network: {name} has no published weights here; {', '.join(CATALOGUES)} have")
    return CATALOGUES[name](network_spec)


def _of_backbone(backbone: Mapping[str, Any]) -> Published:
    """The weights of the network below a head, whose own outputs tell no classes here."""
    found = _known_weights(backbone)
    if found is None:
        raise ValueError(
            "network: a backbone that is described in the study needs published weights (weights, pretrained); leave "
            "it out to use a trained model, the bottom"
        )
    return replace(found, classes=())


def check_channels(name: str, weights: Weights | None, channels: int) -> None:
    """Refuses weights that were trained on images of other channels.

    Args:
        name: the model's, for messages.
        weights: None where the network has none.
        channels: of the data set's images.

    Raises:
        ValueError: they do not fit; the message names both counts.
    """
    if weights is not None and len(weights.mean) != channels:
        raise ValueError(
            f"model {name!r}: {weights.name} takes images of {len(weights.mean)} channels, the data set's have "
            f"{channels}: train it without published weights"
        )


def same_classes(weights: Weights, class_names: Sequence[str]) -> bool:
    """Whether outputs mean what a data set's labels do: as many, and by nearly the same names in the same order."""
    if len(weights.classes) != len(class_names):
        return False
    equal = sum(_plain(one) == _plain(other) for one, other in zip(weights.classes, class_names, strict=True))
    return equal >= _AGREEMENT * len(class_names)


def _plain(name: str) -> str:
    """A class's first name: without synonyms, case, and the number that tells two of one name apart."""
    return _PARTICULAR.sub("", name.split(",")[0]).strip().casefold()


def keeps_head(name: str, weights: Weights | None, encoding: Encoding, class_names: list[str], as_it_is: bool) -> bool:
    """Whether published weights' last layer gives a data set's logits.

    Args:
        name: the model's, for messages.
        weights: None where the network has none.
        encoding: what its logits shall mean.
        class_names: the data set's.
        as_it_is: nothing is trained afterwards.

    Raises:
        ValueError: it does not, or there are no such weights, and there is no training that would give others.
    """
    kept = weights is not None and isinstance(encoding, OneHot) and same_classes(weights, class_names)
    if as_it_is and weights is None:
        raise ValueError(
            f"model {name!r}: with epochs: 0 a network is taken as it is: give it published weights (torchvision: "
            "weights, timm: pretrained), or train it"
        )
    if as_it_is and weights is not None and not kept:
        told = f"{len(weights.classes)} classes ({weights.classes[0]}, ...)" if weights.classes else "outputs"
        raise ValueError(
            f"model {name!r}: {weights.name} tells {told}, which are not the data set's {len(class_names)} "
            f"({class_names[0]}, ...): train it, with epochs of 1 or more"
        )
    return kept
