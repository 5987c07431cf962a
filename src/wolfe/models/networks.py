"""Networks by name.

To add one, write a class or function `(in_channels, outputs, image_size, *, options) -> nn.Module` that maps
normalised images (B, C, H, W) to logits (B, outputs), and name it in `NETWORKS`. A network may bring its own
`linearise(images, normalise)`, and its own way to take published tensors, `adopt(tensors, new_head)`. One that takes
layers of a trained network, a study's `bottom`, is a class with a method `copy_bottom(source)`; if it has an option
`backbone`, that is given the description of the trained network.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from wolfe.models.alexnet import AlexNet
from wolfe.models.catalogues import check_architecture, check_timm_architecture
from wolfe.models.ensemble import VGG16Ensemble
from wolfe.models.frozen_features import FrozenFeatures
from wolfe.models.inception import inception_v3
from wolfe.models.stem import give_stem
from wolfe.models.vgg import VGG16


def timm_network(
    in_channels: int,
    outputs: int,
    image_size: int,
    *,
    architecture: str,
    stem: Sequence[Sequence[int]] | None = None,
    **options: Any,
) -> nn.Module:
    """A network of the timm library, with fresh weights.

    Args:
        in_channels: channels of an image.
        outputs: n, the number of logits.
        image_size: height and width; told to architectures that ask for `img_size` in the options.
        architecture: timm's name, e.g. "resnet10t", or that of published weights, e.g. "resnet50.a1_in1k".
        stem: output channels and stride of the convolutions that replace a ViT's or Swin's embedding of patches; None
            for timm's own.
        **options: what timm's model takes, e.g. `channels`, `stem_width`.

    Raises:
        ValueError: timm has no such architecture or option, or it takes images of another size.
    """
    import timm  # here, since it takes seconds and other networks do not need it

    check_timm_architecture(architecture)
    if options.get("img_size") == "image":
        options["img_size"] = image_size
    try:
        network: nn.Module = timm.create_model(
            architecture, pretrained=False, in_chans=in_channels, num_classes=outputs, **options
        )
    except (TypeError, ValueError, AssertionError, IndexError, RuntimeError) as error:
        # timm checks its options by whatever fails first.
        raise ValueError(f"timm's {architecture} does not take these options: {options} ({error!r})") from error
    if stem is not None:
        give_stem(network, in_channels, stem)
    sizes = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if sizes and stem is None and tuple(sizes) != (image_size, image_size):
        raise ValueError(
            f"timm's {architecture} takes images of {sizes[0]} pixels, the data set's have {image_size}: give it the "
            "option img_size: image (position embeddings are then interpolated), or the data set that size"
        )
    return network


def torchvision_network(in_channels: int, outputs: int, image_size: int, *, architecture: str) -> nn.Module:  # noqa: ARG001
    """A classifier of the torchvision library, with fresh weights.

    Args:
        in_channels: channels of an image; torchvision's take 3.
        outputs: n, the number of logits.
        image_size: height and width; not told, these networks average over what places there are.
        architecture: torchvision's name, e.g. "resnet50".

    Raises:
        ValueError: torchvision has no such architecture, or the images are grey.
    """
    check_architecture(architecture)
    if in_channels != 3:
        raise ValueError(f"torchvision's {architecture} takes images of 3 channels, got {in_channels}")
    from torchvision import models  # here, since other networks do not need it

    network: nn.Module = models.get_model(architecture, weights=None, num_classes=outputs)
    return network


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "vgg16": VGG16,
    "vgg16_ensemble": VGG16Ensemble,
    "inception_v3": inception_v3,
    "frozen_features": FrozenFeatures,
    "timm": timm_network,
    "torchvision": torchvision_network,
}


def takes_bottom(network_spec: dict[str, Any]) -> bool:
    """Whether a network shares layers of a trained one; published weights take its place."""
    published = network_spec.get("weights") or network_spec.get("backbone")
    return not published and hasattr(NETWORKS.get(network_spec.get("name", "")), "copy_bottom")


def with_backbone(network_spec: dict[str, Any], bottom_spec: dict[str, Any]) -> dict[str, Any]:
    """A network's entry, with the description of its bottom if it has to build that itself.

    Args:
        network_spec: `name` and that network's options; one that takes a bottom.
        bottom_spec: the same of the trained network.
    """
    needs = "backbone" in inspect.signature(NETWORKS[network_spec["name"]]).parameters
    return {**network_spec, "backbone": bottom_spec} if needs else network_spec


def build_network(network_spec: dict[str, Any], in_channels: int, outputs: int, image_size: int) -> nn.Module:
    """A network with fresh weights, drawn from torch's global generator.

    Args:
        network_spec: `name` and that network's options.
        in_channels: channels of an image.
        outputs: n, the number of logits.
        image_size: height and width in pixels.

    Raises:
        ValueError: an unknown network or option; the message lists those there are.
    """
    options = dict(network_spec)
    name = options.pop("name", None)
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; there are {', '.join(NETWORKS)}")
    parameters = inspect.signature(NETWORKS[name]).parameters
    own = [key for key in parameters if key not in ("in_channels", "outputs", "image_size", "options")]
    open_ended = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    for key in options:
        if key not in own and not open_ended:
            raise ValueError(f"network {name} has no option {key!r}; it has {', '.join(own)}")
    for key in own:
        if parameters[key].default is inspect.Parameter.empty and key not in options:
            raise ValueError(f"network {name} needs the option {key!r}")
    return NETWORKS[name](in_channels, outputs, image_size, **options)
