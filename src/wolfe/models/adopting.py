"""How published tensors get into a network: by its library's names, all of them, of the published shapes.

Nothing is unpickled but tensors.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wolfe.models.weights_files import Weights
from wolfe.reading.regular import regular_file

# The layers of a second classifier, which only training uses.
_SECOND = ("AuxLogits.",)


def load_weights(network: nn.Module, weights: Weights, new_head: bool) -> None:
    """Puts weights into a network.

    Args:
        network: as its library builds it, with fresh weights; changed in place.
        weights: of that architecture.
        new_head: the last layer has other outputs and keeps its fresh weights.

    Raises:
        FileNotFoundError: the file is missing.
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
    _check_outputs(network, state)
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
    named = _published(network).get("classifier")
    if not named:
        layers = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
        named = layers[-1]
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def _published(network: nn.Module) -> dict[str, Any]:
    """What timm says of a network's published weights; nothing for those of others."""
    return dict(getattr(network, "pretrained_cfg", None) or {})


def _check_outputs(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuses tensors whose last layer has other outputs than the published one: they were trained on other classes.

    A file of timm's has no checksum in its name, and a network that gets a layer of its own would take any.

    Raises:
        ValueError: the message tells both counts.
    """
    expected = _published(network).get("num_classes")
    for head in _heads(network) if expected else ():
        found = len(state[f"{head}weight"]) if f"{head}weight" in state else 0
        if found != expected:
            raise ValueError(f"its last layer, {head[:-1]}, has {found} outputs, that of the published one {expected}")


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else; the message names it.
    """
    from safetensors.torch import load_file

    regular_file(file)
    try:
        _check_stored(file)
        content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # What stands for Python's unpickler knows tensors alone, and fails by whatever comes first in a damaged file.
        raise ValueError(f"{file} holds no tensors that can be read safely ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds no tensors by name")
    for name, value in content.items():
        if not _is_dense(value):
            raise ValueError(f"{file} holds a tensor that is no plain array of numbers ({str(name)[:100]})")
        if not isinstance(name, str) or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{file} holds a tensor of more values than the file has ({str(name)[:100]})")
    return dict(content)


def _is_dense(value: Tensor) -> bool:
    """Whether a tensor has all its values in memory, one after another: not sparse, quantised, nested or on "meta"."""
    dense = value.layout == torch.strided and value.device.type == "cpu"
    return dense and not value.is_quantized and not value.is_nested


def _check_stored(file: Path) -> None:
    """Refuses a file whose parts are compressed, which torch never does: nobody knows what they would grow to.

    Raises:
        ValueError: they are.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as content:
        if any(part.compress_type != zipfile.ZIP_STORED for part in content.infolist()):
            raise ValueError("its parts are compressed")
