"""Classifiers and images that the tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.encoding import Encoding
from wolfe.files import content_checksum, write_json

# The tensors of the tests are tiny: more threads only wait for each other.
torch.set_num_threads(1)


class Affine(nn.Module):
    """Logits W x + b of flattened images; everything about it can be solved by hand."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias


class Small(nn.Module):
    """A small convolutional network with dropout and BatchNorm, whose mode matters."""

    def __init__(self, outputs: int, channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, outputs),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


ENCODINGS: dict[str, Encoding] = {
    "one_hot": OneHot(6),
    "codebook": Codebook(hadamard(8, 6), activation="none"),
    "codebook_tanh": Codebook(hadamard(8, 6)),
    "multi_label": MultiLabel(7),
}


def other_targets(encoding: Encoding, decided: Tensor, generator: torch.Generator) -> Tensor:
    """A target for each decision that differs from it."""
    if encoding.multi_label:
        flips = torch.zeros_like(decided).scatter(1, torch.rand(decided.shape, generator=generator).topk(2).indices, 1)
        return (decided + flips) % 2
    return (decided + 1 + torch.randint(5, decided.shape, generator=generator)) % 6


def rewrite_run(folder: Path, run: dict[str, Any]) -> None:
    """Writes a run file that a test has changed, with the checksum that is now right."""
    write_json(folder / "run.json", run | {"sha256": content_checksum(run)})


@pytest.fixture(params=list(ENCODINGS))
def encoding(request: pytest.FixtureRequest) -> Encoding:
    return ENCODINGS[request.param]


@pytest.fixture
def affine(encoding: Encoding) -> tuple[Classifier, Tensor, Tensor]:
    """An affine classifier in float64, images far from 0 and 1, and targets."""
    generator = torch.Generator().manual_seed(5)
    weight = 0.5 * torch.randn(encoding.size, 64, dtype=torch.float64, generator=generator)
    images = (0.5 + 0.15 * torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=generator)).clamp(0.2, 0.8)
    # Biases that centre the logits, so that decisions vary and all targets are near.
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    classifier = Classifier(Affine(weight, bias), encoding).double()
    with torch.no_grad():
        decided = classifier.decide(images)
    return classifier, images, other_targets(encoding, decided, generator)


@pytest.fixture
def convolutional(encoding: Encoding) -> tuple[Classifier, Tensor, Tensor]:
    """A small random convolutional classifier in float32, images and targets."""
    generator = torch.Generator().manual_seed(9)
    torch.manual_seed(3)
    classifier = Classifier(Small(encoding.size), encoding, mean=[0.5], std=[0.25]).eval()
    images = torch.rand(7, 1, 8, 8, generator=generator)
    with torch.no_grad():
        classifier.net.layers[-1].bias -= classifier(images).mean(dim=0)
        decided = classifier.decide(images)
    return classifier, images, other_targets(encoding, decided, generator)


@pytest.fixture
def code_of_eight() -> tuple[Classifier, Tensor, Tensor]:
    """An affine classifier of six codewords of eight bits through tanh, in float64, images and targets."""
    generator = torch.Generator().manual_seed(1)
    weight = 0.2 * torch.randn(8, 16, dtype=torch.float64, generator=generator)
    images = 0.5 + 0.02 * torch.randn(4, 1, 4, 4, dtype=torch.float64, generator=generator)
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    classifier = Classifier(Affine(weight, bias), Codebook(hadamard(8, 6))).double()
    return classifier, images, (classifier.decide(images) + 1) % 6
