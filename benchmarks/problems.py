"""Classifiers with images and targets to attack.

Speed needs no training, but it needs networks that react to their images: their weights are drawn, normalisations
learn the images' statistics, and the last layer is scaled so that logits are a few units apart.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.settings import Settings
from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.data.digits import enlarged, raw_digits
from wolfe.data.photographs import PHOTOGRAPHS, photograph
from wolfe.encoding import Encoding
from wolfe.models.networks import build_network
from wolfe.seeding import numpy_generator, seed_for, torch_generator

RESNET = {"name": "timm", "architecture": "resnet18"}
NARROW = {"name": "vgg16", "width": 0.125}
ENSEMBLE = {"name": "vgg16_ensemble", "width": 0.125, "branch_width": 0.0625, "dropout": 0.1}
LARGE = {
    "ResNet50": {"name": "timm", "architecture": "resnet50"},
    "ViT-B/16": {"name": "timm", "architecture": "vit_base_patch16_224"},
    "Swin-B": {"name": "timm", "architecture": "swin_base_patch4_window7_224"},
}
# Standard deviation of the logits, and how many images show a network what it will see.
_LOGITS, _SHOWN = 2.0, 16


@dataclass(frozen=True)
class Case:
    """What is attacked: a name, a classifier in evaluation mode, images (B, C, H, W) and targets."""

    name: str
    classifier: Classifier
    images: Tensor
    targets: Tensor

    def part(self, count: int) -> Case:
        """The first images."""
        return Case(self.name, self.classifier, self.images[:count], self.targets[:count])


def photographs(settings: Settings, count: int, size: int) -> Tensor:
    """Crops (count, 3, size, size) of real photographs, the same for the same seed."""
    generator = numpy_generator(settings.seed, "benchmark photographs", str(size))
    sources = _own_pictures(settings.images) if settings.images else [photograph(name) for name in PHOTOGRAPHS]
    crops = []
    for _ in range(count):
        source = sources[generator.integers(len(sources))]
        side = int(min(source.size) * generator.uniform(0.4, 1.0))
        left, top = (int(generator.integers(0, length - side + 1)) for length in source.size)
        crop = source.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
        crops.append(torch.from_numpy(np.array(crop)).permute(2, 0, 1).float() / 255)
    return torch.stack(crops)


def digits(settings: Settings, count: int, size: int = 32) -> Tensor:
    """Handwritten digits (count, 1, size, size)."""
    pictures, _ = raw_digits()
    chosen = numpy_generator(settings.seed, "benchmark digits").permutation(len(pictures))[:count]
    return torch.stack([torch.from_numpy(enlarged(pictures[i], size).copy())[None].float() / 255 for i in chosen])


def drawn(settings: Settings, network: dict[str, Any], encoding: Encoding, images: Tensor) -> Classifier:
    """A classifier with drawn weights, adapted to the first images as the module says, on the device of the run."""
    images = images[:_SHOWN]
    spec = dict(network)
    if "vit" in spec.get("architecture", "") or "swin" in spec.get("architecture", ""):
        spec["img_size"] = images.shape[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(settings.seed, "benchmark weights", str(sorted(map(str, spec.items())))))
        net = build_network(spec, images.shape[1], encoding.size, images.shape[-1])
    channels = tuple(range(images.shape[1]))
    mean = [float(images[:, channel].mean()) for channel in channels]
    std = [max(0.05, float(images[:, channel].std())) for channel in channels]
    classifier = Classifier(net, encoding, mean, std).to(settings.device).eval()
    _adapt(classifier, images.to(settings.device))
    return classifier.requires_grad_(False)


def _adapt(classifier: Classifier, images: Tensor) -> None:
    """Normalisations learn the images' statistics; the last layer gives logits of mean 0 and of a few units."""
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        classifier(images)
        classifier.eval()
        logits = classifier(images)
        last: Any = [module for module in classifier.modules() if getattr(module, "bias", None) is not None][-1]
        scale = _LOGITS / logits.std(dim=0).mean().clamp(min=1e-12)
        last.weight *= scale
        last.bias.copy_(((last.bias.flatten() - logits.mean(dim=0)) * scale).view_as(last.bias))


def labels(settings: Settings, flips: int, count: int, size: int = 64, *, narrow: bool = False) -> Case:
    """Multi-label, n = 20, ResNet18 or a narrow VGG16; `flips` labels of the decision are flipped."""
    images = photographs(settings, max(count, _SHOWN), size)
    name = f"multi-label 20, flip {flips}, {_words(narrow)} {size}x{size}"
    return _flipped(settings, name, NARROW if narrow else RESNET, images, flips).part(count)


def large(settings: Settings, name: str, flips: int, count: int) -> Case:
    """Multi-label, n = 20, a network of full size at 224x224."""
    images = photographs(settings, max(count, _SHOWN), 224)
    return _flipped(settings, f"multi-label 20, flip {flips}, {name} 224x224", LARGE[name], images, flips).part(count)


def code(settings: Settings, count: int) -> Case:
    """ECOC, 16 bits, an ensemble of narrow VGG16 branches on handwritten digits."""
    encoding = Codebook(hadamard(16, 10))
    images = digits(settings, max(count, _SHOWN))
    return _other(settings, "ECOC 16, VGG16 ensemble 32x32", ENSEMBLE, encoding, images).part(count)


def classes(settings: Settings, outputs: int, count: int, size: int = 64, *, narrow: bool = False) -> Case:
    """One-hot, ResNet18 or a narrow VGG16."""
    images = photographs(settings, max(count, _SHOWN), size)
    name = f"one-hot {outputs}, {_words(narrow)} {size}x{size}"
    return _other(settings, name, NARROW if narrow else RESNET, OneHot(outputs), images).part(count)


def _words(narrow: bool) -> str:
    return "VGG16 at 1/8 width" if narrow else "ResNet18"


def _flipped(settings: Settings, name: str, network: dict[str, Any], images: Tensor, flips: int) -> Case:
    classifier = drawn(settings, network, MultiLabel(20), images)
    decided = _decided(classifier, images)
    order = torch.rand(decided.shape, generator=torch_generator(settings.seed, "benchmark flips")).argsort(dim=1)
    flip = torch.zeros_like(decided).scatter(1, order[:, :flips], 1)
    return Case(name, classifier, images.to(settings.device), ((decided + flip) % 2).to(settings.device))


def _other(settings: Settings, name: str, network: dict[str, Any], encoding: Any, images: Tensor) -> Case:
    classifier = drawn(settings, network, encoding, images)
    generator = torch_generator(settings.seed, "benchmark classes")
    shift = torch.randint(1, encoding.classes, (len(images),), generator=generator)
    targets = (_decided(classifier, images) + shift) % encoding.classes
    return Case(name, classifier, images.to(settings.device), targets.to(settings.device))


def _decided(classifier: Classifier, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([classifier.decide(part.to(classifier.device)).cpu() for part in images.split(64)])


def _own_pictures(folder: Path) -> list[Image.Image]:
    """The pictures of a folder, in RGB; from parquet files the first 64.

    Raises:
        ValueError: there are none.
    """
    contents = [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".png", ".jpg", ".jpeg")]
    for path in sorted(folder.glob("**/*.parquet")):
        contents += [image["bytes"] for image in pd.read_parquet(path, columns=["image"])["image"][:64]]
    if not contents:
        raise ValueError(f"{folder} holds no pictures (png, jpg) and no parquet file of images")
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents[:64]]
