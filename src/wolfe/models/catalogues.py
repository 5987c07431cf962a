"""The published weights of torchvision and timm: found in a folder or fetched, and checked.

What they were trained on (normalisation, classes) is known from their library, so a classifier that uses them sees
images as they did.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wolfe.files import sha256

# A file of torchvision's carries the beginning of its checksum in its name.
_HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class Weights:
    """Trained weights in a file.

    Attributes:
        name: library, architecture and the weights' own name.
        file: where they are.
        mean: what was subtracted from each channel of an image in [0, 1].
        std: what it was divided by.
        classes: the meaning of the outputs; empty where it is not known, or where they are no classes.
    """

    name: str
    file: Path
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def origin(self) -> dict[str, str]:
        """What a classifier's description says of them."""
        return {"name": self.name, "sha256": sha256(self.file)}


def _located(network_spec: Mapping[str, Any], name: str, file: str, fetch: Callable[[], Path]) -> Path:
    """The file of weights: the one that is named, or the usual one in a folder, or what was fetched.

    Raises:
        FileNotFoundError: it is missing; the message says what to do.
        ValueError: its content is not what its name promises.
    """
    given, root = network_spec.get("weights_file"), network_spec.get("weights_root")
    path = Path(given) if given else Path(root) / file if root else None
    if path is None:
        try:
            path = fetch()
        except OSError as error:
            raise FileNotFoundError(
                f"network: the weights {name} are not on this machine and cannot be fetched here ({error}): put "
                f"{file} into a folder and name it as weights_root"
            ) from error
    if not path.is_file():
        raise FileNotFoundError(f"network: {path}, the weights {name}, is missing")
    promised = _HASH.search(path.name)
    if promised and not sha256(path).startswith(promised[1]):
        raise ValueError(f"{path} is damaged: its checksum does not begin with {promised[1]}, as its name says")
    return path


def _torchvision_weights(network_spec: Mapping[str, Any]) -> Weights:
    check_architecture(network_spec["architecture"])
    return _of_torchvision(network_spec, network_spec["architecture"])


def _of_torchvision(network_spec: Mapping[str, Any], architecture: str) -> Weights:
    from torchvision import models

    # Some weights are of features alone and tell no classes.
    known = {item.name: item for item in models.get_model_weights(architecture) if item.meta.get("categories")}
    wanted = network_spec.get("weights")
    if wanted not in known:
        raise ValueError(f"network: torchvision's {architecture} has no weights {wanted!r}; it has {', '.join(known)}")
    item = known[wanted]
    file = item.url.rsplit("/", 1)[-1]

    def fetch() -> Path:
        path = Path(torch.hub.get_dir()) / "checkpoints" / file
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(item.url, str(path), progress=False)
        return path

    name, shown = f"torchvision {architecture} {item.name}", item.transforms()
    path = _located(network_spec, name, file, fetch)
    return Weights(name, path, tuple(shown.mean), tuple(shown.std), tuple(item.meta["categories"]))


def _vgg16_weights(network_spec: Mapping[str, Any]) -> Weights:
    _refuse_changes(network_spec, {"width": 1})
    return _of_torchvision(network_spec, "vgg16_bn" if network_spec.get("batch_norm", True) else "vgg16")


def _ensemble_weights(network_spec: Mapping[str, Any]) -> Weights:
    # What a branch ends with is its own, so the outputs are no classes.
    return replace(_vgg16_weights(network_spec), classes=())


def _inception_weights(network_spec: Mapping[str, Any]) -> Weights:
    _refuse_changes(network_spec, {"width": 1, "blocks": [3, 4, 2], "small_images": False})
    # Torchvision normalises once more inside this network: both together map [0, 1] to [-1, 1].
    return replace(_of_torchvision(network_spec, "inception_v3"), mean=(0.5,) * 3, std=(0.5,) * 3)


def _refuse_changes(network_spec: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    """Refuses published weights in a network that differs from the published one.

    Raises:
        ValueError: the message names the option and the published value.
    """
    for option, value in published.items():
        if network_spec.get(option, value) != value:
            name = network_spec["name"]
            raise ValueError(
                f"network: published weights are of {name} with {option}: {value}, not {network_spec[option]}"
            )


def check_architecture(architecture: str) -> None:
    """Refuses what torchvision does not have, or what gives more than logits.

    Raises:
        ValueError: the message lists near names.
    """
    from difflib import get_close_matches

    from torchvision import models

    # These two give the outputs of a second classifier as well.
    known = [name for name in models.list_models(module=models) if name not in ("googlenet", "inception_v3")]
    if architecture not in known:
        near = ", ".join(get_close_matches(architecture, known, n=6)) or "none"
        raise ValueError(f"torchvision has no architecture {architecture!r} that can be used here; near it: {near}")


def _timm_weights(network_spec: Mapping[str, Any]) -> Weights:
    import timm
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    architecture = network_spec["architecture"]
    try:
        config = timm.get_pretrained_cfg(architecture, allow_unregistered=False)
    except RuntimeError as error:
        raise ValueError(f"network: timm has no weights for {architecture!r} ({error})") from error
    assert config is not None
    repository = config.hf_hub_id
    if not repository:
        raise ValueError(f"network: timm has no weights for {architecture!r} that can be fetched by name")
    name = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)

    def fetch() -> Path:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, config.hf_hub_filename or "model.safetensors"))

    path = _located(network_spec, f"timm {name}", f"{name}.safetensors", fetch)
    # Of others (CLIP's outputs are no classes) only the layers before the last can be used.
    subset = infer_imagenet_subset(config.to_dict())
    classes = ImageNetInfo(subset).label_descriptions() if subset else ()
    return Weights(f"timm {name}", path, tuple(config.mean), tuple(config.std), tuple(classes))


CATALOGUES: dict[str, Callable[[Mapping[str, Any]], Weights]] = {
    "torchvision": _torchvision_weights,
    "timm": _timm_weights,
    "vgg16": _vgg16_weights,
    "vgg16_ensemble": _ensemble_weights,
    "inception_v3": _inception_weights,
}
"""Name of a network to what finds the weights that its entry names."""
