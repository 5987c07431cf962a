"""Networks that tell adversarial from genuine: what they are, how they begin and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wolfe.classifier import Classifier
from wolfe.encoding import OneHot
from wolfe.models.networks import build_network
from wolfe.models.portions import Portions
from wolfe.models.storage import load_classifier, load_description
from wolfe.seeding import seed_for

CLASSES = ("genuine", "adversarial")


@dataclass(frozen=True)
class Detector:
    """A network that shall tell adversarial from genuine.

    Attributes:
        name: what it is called here.
        network: its entry, `name` and options.
        start: folder of a trained classifier whose layers, but for the last, it begins with; None for fresh ones.
    """

    name: str
    network: dict[str, Any]
    start: Path | None


def checked_detectors(spec: Mapping[str, Any], results: Path, shape: Sequence[int]) -> list[Detector]:
    """The detectors of an experiment, once their networks are known to be buildable and their start weights to fit.

    Args:
        spec: the experiment, with `detectors`.
        results: `results/<study>`.
        shape: (C, H, W) of the images.

    Raises:
        FileNotFoundError: a start is missing.
        ValueError: there is no detector, a network cannot be built or a start has another one.
    """
    found = []
    for entry in spec["detectors"]:
        start = Path(results) / "models" / entry["start"] if entry.get("start") else None
        found.append(Detector(str(entry["name"]), dict(entry["network"]), start))
    if not found:
        raise ValueError("detectors: name at least one network")
    for detector in found:
        with torch.random.fork_rng(devices=[]):  # what is built here is thrown away: leave no trace
            build_network(detector.network, shape[0], 2, shape[1])
        _check_start(detector, shape)
    return found


def _check_start(detector: Detector, shape: Sequence[int]) -> None:
    if detector.start is None:
        return
    description = load_description(detector.start)
    for what, own in (("network", detector.network), ("image_shape", list(shape))):
        if description[what] != own:
            other = f"{what} {description[what]}, the detector {own}"
            raise ValueError(f"detector {detector.name!r} cannot start from {detector.start}: that has the {other}")


def fresh_detector(
    detector: Detector, shape: Sequence[int], normalisation: tuple[list[float], list[float]], seed: int
) -> Classifier:
    """A detector before its training.

    Args:
        detector: its network; with a start, all layers but the last and the normalisation are those of the start.
        shape: (C, H, W) of the images.
        normalisation: mean and standard deviation of each channel.
        seed: of the fresh weights; the last layer's are He's (K. He et al., 2015, https://arxiv.org/abs/1502.01852).
    """
    channels, size, _ = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights"))
        net = build_network(detector.network, channels, len(CLASSES), size)
        name, last = last_layer(net)
        nn.init.kaiming_normal_(last.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(last.bias)
    if detector.start is None:
        return Classifier(net, OneHot(len(CLASSES)), *normalisation)
    source = load_classifier(detector.start)
    kept = {key: value for key, value in source.net.state_dict().items() if not key.startswith(f"{name}.")}
    net.load_state_dict(kept, strict=False)
    return Classifier(net, OneHot(len(CLASSES)), source.mean.flatten().tolist(), source.std.flatten().tolist())


def last_layer(net: nn.Module) -> tuple[str, nn.Linear]:
    """Name and layer of the last dense layer of a network.

    Raises:
        ValueError: it has none.
    """
    layers = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no dense layer to replace by one with two outputs")
    return layers[-1]


@torch.no_grad()
def scores(detector: Classifier, images: NDArray[np.float32], batch_size: int) -> NDArray[np.float64]:
    """How adversarial a detector takes images to be: the logit of adversarial minus that of genuine.

    Args:
        detector: in evaluation mode.
        images: (B, C, H, W) in [0, 1].
        batch_size: images in a forward pass.

    Returns:
        (B,); above 0 the detector says adversarial.
    """
    parts = [logits(detector, part) for part in torch.from_numpy(images).split(batch_size)]
    both = torch.cat(parts).double().numpy() if parts else np.zeros((0, len(CLASSES)))
    return np.asarray(both[:, 1] - both[:, 0])


@torch.no_grad()
def logits(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits (B, n), on the CPU, of images (B, C, H, W)."""
    return Portions().joined(classifier, images.to(classifier.device)).cpu()
