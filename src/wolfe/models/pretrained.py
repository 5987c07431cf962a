"""Published weights in a network: what an entry says of them, whether their classes are the data's, how they get in.

Nothing is unpickled but tensors.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
# The layers of a second classifier, which only training uses.
_SECOND = ("AuxLogits.",)
_PARTICULAR = re.compile(r"\s*\(n\d+\)$")


def without_weights(network_spec: Mapping[str, Any]) -> dict[str, Any]:
    """A network's entry without what is about its weights, or its backbone's."""
    kept = {key: value for key, value in network_spec.items() if key not in OPTIONS}
    return {**kept, "backbone": without_weights(kept["backbone"])} if "backbone" in kept else kept


def find_weights(network_spec: Mapping[str, Any]) -> Weights | None:
    """The weights that a network's entry asks for, fetched if they are nowhere; None where it asks for none.

    Args:
        network_spec: with `weights` (a name of torchvision's), or of timm with `pretrained`; `weights_file` names their
            file, `weights_root` a folder that holds it under its usual name. A head on frozen features says this in
            the entry of its `backbone`.

    Raises:
        ValueError: there are no such weights, or the file is not theirs.
        FileNotFoundError: the file is missing and cannot be fetched; the message says what to do.
    """
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


def _of_backbone(backbone: Mapping[str, Any]) -> Weights:
    """The weights of the network below a head, whose own outputs are not used."""
    found = find_weights(backbone)
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


def load_weights(network: nn.Module, weights: Weights, new_head: bool) -> None:
    """Puts weights into a network.

    Args:
        network: as its library builds it, with fresh weights; changed in place.
        weights: of that architecture.
        new_head: the last layer has other outputs and keeps its fresh weights.

    Raises:
        ValueError: the file cannot be read, or its tensors do not fit; the message names the file.
    """
    tensors = _tensors(weights.file)
    try:
        put_tensors(network, tensors, new_head)
    except (ValueError, RuntimeError, KeyError, AttributeError) as error:
        # Timm's conversions fail by whatever is missing first.
        found = " ".join(str(error).split())
        raise ValueError(f"{weights.file} does not fit the network: {found}") from error


def put_tensors(network: nn.Module, tensors: Mapping[str, Tensor], new_head: bool) -> None:
    """Puts published tensors into a network: by its own method `adopt(tensors, new_head)` if it has one.

    Args:
        network: changed in place.
        tensors: by the names that their library gives them.
        new_head: the last layer, if the network has it, keeps its fresh weights.

    Raises:
        ValueError: they do not fit.
    """
    adopt = getattr(network, "adopt", None)
    if callable(adopt):
        adopt(tensors, new_head)
        return
    own, heads = network.state_dict(), _heads(network)
    state = {key: value for key, value in _converted(network, tensors).items() if not key.startswith(_SECOND)}
    if new_head:
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
        state |= {key: value for key, value in own.items() if key.startswith(heads)}
    load_state(network, state)


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads tensors that must all be there and fit; counts of batches, which older files lack, may be missing.

    Raises:
        ValueError: they do not fit; the message counts what is wrong and gives an example.
    """
    own = network.state_dict()
    state = {**{key: value for key, value in own.items() if key.endswith("num_batches_tracked")}, **state}
    missing, surplus = own.keys() - state.keys(), state.keys() - own.keys()
    differing = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or surplus or differing:
        first = sorted([*missing, *surplus, *differing])[0]
        raise ValueError(
            f"{len(missing)} tensors are missing, {len(surplus)} are too many, {len(differing)} have another shape "
            f"(for example {first})"
        )
    network.load_state_dict(state)


def _converted(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as timm's network has them: other names, position embeddings for another number of patches."""
    module = type(network).__module__
    convert = getattr(sys.modules[module], "checkpoint_filter_fn", None) if module.startswith("timm.") else None
    return dict(convert(dict(tensors), network) if convert else tensors)


def _heads(network: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of the tensors that give the outputs: timm names them, else those of the last layer."""
    named = (getattr(network, "pretrained_cfg", None) or {}).get("classifier")
    if not named:
        layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        named = layers[-1]
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


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
