"""The published weights of torchvision and timm by name; nothing is fetched or read here.

What they were trained on (normalisation, classes) is known from their library, so a classifier that uses them sees
images as they did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from wolfe.model_choices import AS_PUBLISHED
from wolfe.models.weights_files import Published


def _torchvision_weights(network_spec: Mapping[str, Any]) -> Published:
    check_architecture(_architecture(network_spec))
    return _of_torchvision(network_spec, network_spec["architecture"])


def _of_torchvision(network_spec: Mapping[str, Any], architecture: str) -> Published:
    from torchvision import models

    # Some weights are of features alone and tell no classes.
    known = {item.name: item for item in models.get_model_weights(architecture) if item.meta.get("categories")}
    wanted = network_spec.get("weights")
    if wanted not in known:
        raise ValueError(f"network: torchvision's {architecture} has no weights {wanted!r}; it has {', '.join(known)}")
    item = known[wanted]
    file, shown = item.url.rsplit("/", 1)[-1], item.transforms()

    def fetch() -> Path:
        path = Path(torch.hub.get_dir()) / "checkpoints" / file
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(item.url, str(path), progress=False)
        return path

    name, classes = f"torchvision {architecture} {item.name}", tuple(item.meta["categories"])
    return Published(name, tuple(shown.mean), tuple(shown.std), classes, (file,), fetch)


def _vgg16_weights(network_spec: Mapping[str, Any]) -> Published:
    _refuse_changes(network_spec)
    return _of_torchvision(network_spec, "vgg16_bn" if network_spec.get("batch_norm", True) else "vgg16")


def _ensemble_weights(network_spec: Mapping[str, Any]) -> Published:
    # What a branch ends with is its own, so the outputs are no classes.
    return replace(_vgg16_weights(network_spec), classes=())


def _inception_weights(network_spec: Mapping[str, Any]) -> Published:
    _refuse_changes(network_spec)
    # Torchvision normalises once more inside this network: both together map [0, 1] to [-1, 1].
    return replace(_of_torchvision(network_spec, "inception_v3"), mean=(0.5,) * 3, std=(0.5,) * 3)


def _refuse_changes(network_spec: Mapping[str, Any]) -> None:
    """Refuses published weights in a network that differs from the published one.

    Raises:
        ValueError: the message names the option and the published value.
    """
    name = network_spec["name"]
    for option, value in AS_PUBLISHED[name].items():
        if network_spec.get(option, value) != value:
            raise ValueError(
                f"network: published weights are of {name} with {option}: {value}, not {network_spec[option]}"
            )


def _architecture(network_spec: Mapping[str, Any]) -> str:
    if "architecture" not in network_spec:
        raise ValueError(f"network {network_spec['name']} needs the option 'architecture'")
    return str(network_spec["architecture"])


def check_architecture(architecture: str) -> None:
    """Refuses what torchvision does not have, or what gives more than logits.

    Raises:
        ValueError: the message lists near names.
    """
    from torchvision import models

    # These two give the outputs of a second classifier as well.
    known = [name for name in models.list_models(module=models) if name not in ("googlenet", "inception_v3")]
    if architecture not in known:
        near = ", ".join(get_close_matches(architecture, known, n=6)) or "none"
        raise ValueError(f"torchvision has no architecture {architecture!r} that can be used here; near it: {near}")


def check_timm_architecture(architecture: str) -> None:
    """Refuses what timm does not have: an architecture, or the published weights that its name tells.

    Raises:
        ValueError: the message lists near names, or the weights that there are.
    """
    import timm  # here, since it takes seconds and other networks do not need it

    base, dot, tag = architecture.partition(".")
    if not timm.is_model(base):
        near = ", ".join(get_close_matches(base, timm.list_models(), n=6)) or "none"
        raise ValueError(f"timm has no architecture {base!r}; near it: {near}")
    tags = [name.removeprefix(f"{base}.") for name in timm.list_models(f"{base}.*", pretrained=True)]
    if dot and tag not in tags:
        raise ValueError(f"timm has no weights for {architecture!r}; of {base} it has {', '.join(tags) or 'none'}")


def _timm_config(network_spec: Mapping[str, Any]) -> Any:
    """What timm knows of published weights."""
    import timm

    architecture = _architecture(network_spec)
    check_timm_architecture(architecture)
    config = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        raise ValueError(f"network: timm has no weights for {architecture!r} that can be fetched by name")
    return config


def _timm_weights(network_spec: Mapping[str, Any]) -> Published:
    config = _timm_config(network_spec)
    repository, file = config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
    name = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)

    def fetch() -> Path:
        from huggingface_hub import errors, hf_hub_download

        try:
            return Path(hf_hub_download(repository, file))
        except errors.HTTPError as error:  # type: ignore[attr-defined]  # its client's, which need be no OSError
            raise OSError(str(error)) from error

    # Alone under a name that tells what it is, or as its repository has it, in a folder.
    files = (f"{name}.safetensors", f"{name}/{file}", f"{repository.split('/')[-1]}/{file}")
    mean, std = tuple(config.mean), tuple(config.std)
    return Published(f"timm {name}", mean, std, _timm_classes(config), tuple(dict.fromkeys(files)), fetch)


def _timm_classes(config: Any) -> tuple[str, ...]:
    """What the outputs mean; nothing where they are no classes (CLIP's)."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(config.to_dict())
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else ()


def projected_size(backbone: Mapping[str, Any]) -> int:
    """How many values a published last layer projects features to, where it gives no classes (CLIP's).

    Args:
        backbone: a network's entry, with or without what is about its weights.

    Raises:
        ValueError: there is no such layer.
    """
    config = _timm_config(backbone) if backbone.get("name") == "timm" else None
    if config is None or not config.num_classes or _timm_classes(config):
        told = backbone.get("architecture", backbone.get("name"))
        raise ValueError(f"projection: the last layer of {told} is no projection of features, as CLIP's is")
    return int(config.num_classes)


CATALOGUES: dict[str, Callable[[Mapping[str, Any]], Published]] = {
    "torchvision": _torchvision_weights,
    "timm": _timm_weights,
    "vgg16": _vgg16_weights,
    "vgg16_ensemble": _ensemble_weights,
    "inception_v3": _inception_weights,
}
"""Name of a network to what knows the weights that its entry names."""
