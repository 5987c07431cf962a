"""Published weights in a network: what an entry says of them, whether their classes are the data's, how they get in.

Nothing is unpickled but tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from wolfe.encoding import Encoding, OneHot
from wolfe.models.catalogues import CATALOGUES, Weights

OPTIONS = ("weights", "pretrained", "weights_file", "weights_root")
"""What of a network's entry is about its weights; the rest describes the network."""

# The names of classes differ in spelling from list to list; another order of classes agrees almost nowhere.
_AGREEMENT = 0.95
_PARTICULAR = re.compile(r"\s*\(n\d+\)$")


def without_weights(network_spec: Mapping[str, Any]) -> dict[str, Any]:
    """A network's entry without what is about its weights."""
    return {key: value for key, value in network_spec.items() if key not in OPTIONS}


def find_weights(network_spec: Mapping[str, Any]) -> Weights | None:
    """The weights that a network's entry asks for, fetched if they are nowhere; None where it asks for none.

    Args:
        network_spec: of torchvision with `weights` (a name), or of timm with `pretrained`; `weights_file` names their
            file, `weights_root` a folder that holds it under its usual name.

    Raises:
        ValueError: there are no such weights, or the file is not theirs.
        FileNotFoundError: the file is missing and cannot be fetched; the message says what to do.
    """
    name, wanted = network_spec.get("name"), network_spec.get("weights") or network_spec.get("pretrained")
    if not wanted:
        if network_spec.get("weights_file") or network_spec.get("weights_root"):
            raise ValueError(
                "network: weights_file and weights_root say where the weights are; say also which: weights: <name> for "
                "torchvision, pretrained: true for timm"
            )
        return None
    if name not in CATALOGUES:
        raise ValueError(f"network: {name} has no published weights here; {' and '.join(CATALOGUES)} have")
    return CATALOGUES[name](network_spec)


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
        raise ValueError(
            f"model {name!r}: {weights.name} tells {len(weights.classes)} classes ({weights.classes[0]}, ...), which "
            f"are not the data set's {len(class_names)} ({class_names[0]}, ...): train it, with epochs of 1 or more"
        )
    return kept


def load_weights(network: nn.Module, weights: Weights, new_head: bool) -> None:
    """Puts weights into a network.

    Args:
        network: as its library builds it, with fresh weights; changed in place.
        weights: of that architecture.
        new_head: the last layer has other outputs and keeps its fresh weights.

    Raises:
        ValueError: the file cannot be read, or its tensors do not fit; the message names the file.
    """
    tensors, own = _tensors(weights.file), network.state_dict()
    if new_head:
        head = _head(network)
        for key in [key for key in tensors if key.startswith(f"{head}.")]:
            tensors[key] = own.get(key, tensors[key])
    missing, surplus = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    differing = [key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape]
    if missing or surplus or differing:
        first = sorted([*missing, *surplus, *differing])[0]
        raise ValueError(
            f"{weights.file} does not fit the network: {len(missing)} tensors are missing, {len(surplus)} are too "
            f"many, {len(differing)} have another shape (for example {first})"
        )
    network.load_state_dict(tensors)


def _head(network: nn.Module) -> str:
    """The name of the layer that gives the outputs: the last with weights of its own."""
    return [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        ValueError: it holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise ValueError(f"{file} holds no tensors that can be read safely ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds no tensors by name")
    return dict(content)
