"""What `classifier.json` may say, and whether the weights beside it are those of its network, before that is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wolfe.data.card import MOST_CLASSES, is_image_shape, is_names
from wolfe.linear.memory import out_of_memory
from wolfe.models.networks import build_network
from wolfe.reading.tensors import shapes_of

NEEDED = ("network", "encoding", "mean", "std", "image_shape", "weights_sha256")
LARGEST_NUMBER, LONGEST_LIST, LONGEST_TEXT = 100_000, 64, 200
"""Bounds of the values that describe a network: of numbers, lists and texts."""
MOST_LAYERS, MOST_BRANCHES, MOST_BITS = 1_000, 1_024, 65_536
_LAYERS = ("depth", "depths", "layers", "blocks")
# fmt: off
TIMM_OPTIONS = frozenset({
    "name", "architecture", "channels", "layers", "stem_width", "stem_type", "avg_down", "drop_rate", "img_size",
    "stem", "patch_size", "embed_dim", "embed_dims", "depth", "depths", "num_heads", "window_size", "window_sizes",
    "key_dim", "attn_ratio", "mlp_ratio", "drop_path_rate", "weight_init", "class_token", "global_pool",
})
# fmt: on
"""What a description may ask of timm: a study's options. timm has more, one of which (checkpoint_path) opens files."""


def check_description(path: Path, description: Mapping[str, Any]) -> None:
    """Refuses entries that no classifier has.

    Args:
        path: of `classifier.json`, for messages.
        description: its content.

    Raises:
        ValueError: the message names the file and the entry.
    """
    names, encoding = description.get("class_names"), description["encoding"]
    right = {
        "network": _is_network(description["network"], encoding),
        "encoding": _is_encoding(encoding),
        "mean": _is_normalisation(description["mean"]),
        "std": _is_normalisation(description["std"]) and min(description["std"]) > 0,
        "image_shape": is_image_shape(description["image_shape"]),
        "weights_sha256": isinstance(description["weights_sha256"], str),
        "class_names": names is None or is_names(names),
    }
    wrong = [key for key, fine in right.items() if not fine]
    if wrong:
        raise ValueError(f"{path} is damaged: {wrong[0]} is not what the description of a classifier holds there")


def _is_number(value: Any, most: float) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= most


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_normalisation(value: Any) -> bool:
    """Whether a value is one number, or one a channel."""
    return isinstance(value, list) and len(value) in (1, 3) and all(_is_number(one, 1e6) for one in value)


def _is_encoding(value: Any) -> bool:
    """Whether a value is what an encoding's `to_dict` gives."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind == "one_hot":
        return _is_count(value.get("classes"), 2, MOST_CLASSES)
    if kind == "multi_label":
        return _is_count(value.get("labels"), 1, MOST_CLASSES)
    words = value.get("codewords") if kind == "codebook" else None
    if not isinstance(words, list) or len(words) < 2 or not all(isinstance(word, list) for word in words):
        return False
    same = 1 <= len(words[0]) <= MOST_BITS and all(len(word) == len(words[0]) for word in words)
    return same and all(type(bit) is int for word in words for bit in word) and "activation" in value


def _is_network(value: Any, encoding: Any) -> bool:
    """Whether a value is a network's name with options that are plain, short and not absurd."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return False
    if value["name"] == "vgg16_ensemble" and _outputs(encoding) > MOST_BRANCHES:
        return False
    backbone = value.get("backbone")
    if backbone is not None and ("backbone" not in value or not _is_network(backbone, None) or "backbone" in backbone):
        return False
    if value["name"] == "timm" and not set(value) <= TIMM_OPTIONS:
        return False
    return all(_is_option(key, option) for key, option in value.items() if key != "backbone")


def _outputs(encoding: Any) -> int:
    """How many logits an encoding has, as far as it can be told; an ensemble has a branch for each."""
    if not _is_encoding(encoding):
        return 0
    return int(encoding.get("classes") or encoding.get("labels") or len(encoding["codewords"][0]))


def _is_option(name: str, value: Any, inside: int = 0) -> bool:
    if isinstance(value, list):
        return inside < 2 and len(value) <= LONGEST_LIST and all(_is_option(name, one, inside + 1) for one in value)
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    if value is None or isinstance(value, bool):
        return True
    return _is_number(value, MOST_LAYERS if name in _LAYERS else LARGEST_NUMBER)


def build_described(path: Path, network: dict[str, Any], channels: int, outputs: int, size: int) -> nn.Module:
    """The network of a description; libraries check their options by whatever fails first.

    Args:
        path: of `classifier.json`, for messages.
        network: its description.
        channels: of the images.
        outputs: number of logits.
        size: height and width of the images.

    Raises:
        ValueError: there is no such network; the message names the file.
    """
    try:
        return build_network(network, channels, outputs, size)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        if out_of_memory(error):
            raise
        raise ValueError(f"{path} describes a network that cannot be built ({error!r})") from error


def check_fits(weights: Path, network: dict[str, Any], channels: int, outputs: int, size: int) -> None:
    """Refuses weights that are not those of a network; it is laid out without memory for its parameters.

    Args:
        weights: a safetensors file, of which only the header is read.
        network: its description.
        channels: of the images.
        outputs: number of logits.
        size: height and width of the images.

    Raises:
        ValueError: they differ; the message names the file and counts what is wrong.
    """
    held = shapes_of(weights)
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            layout = build_network(network, channels, outputs, size)
    except Exception:
        # Its description is wrong, which the real one will tell, or its library asks for values of what has none: then
        # the bounds of the description are all that is known beforehand.
        return
    wanted = {name: tuple(value.shape) for name, value in layout.state_dict().items()}
    wrong = sorted(name for name in wanted.keys() | held.keys() if wanted.get(name) != held.get(name))
    if wrong:
        raise ValueError(
            f"{weights} does not fit the network in {weights.with_name('classifier.json')}: {len(wrong)} tensors are "
            f"missing, too many or of another shape (for example {wrong[0][:LONGEST_TEXT]})"
        )
