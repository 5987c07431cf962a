"""A classifier: a network, its normalisation and its output encoding, over images in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wolfe.encoding import Encoding
from wolfe.linear.calibration import Calibration
from wolfe.linear.jacobian import Linearisation
from wolfe.precision import full_precision


class Classifier(nn.Module):
    """Images (B, C, H, W) in [0, 1] to logits (B, n).

    Normalisation happens inside, so that an attack and a distortion always speak of the image itself.

    Args:
        net: maps normalised images (B, C, H, W) to logits (B, n). If it has a method
            `linearise(images, normalise) -> Linearisation`, that is used for the rows of its Jacobian.
        encoding: what the logits mean.
        mean: per channel; 0 if left out.
        std: per channel, above 0; 1 if left out.

    Attributes:
        calibration: how products with its Jacobian are worked out where that was measured; None for the fixed rule,
            which is the same on every machine.

    Raises:
        ValueError: a standard deviation is not positive, or mean and std differ in length.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        encoding: Encoding,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        mean = [0.0] if mean is None else list(mean)
        std = [1.0] * len(mean) if std is None else list(std)
        if min(std) <= 0:
            raise ValueError(f"std must be positive in every channel, got {std}")
        if len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ValueError(f"mean and std must have one value a channel each, got {len(mean)} and {len(std)}")
        self.net = net
        self.encoding = encoding
        self.calibration: Calibration | None = None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.mean.device

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to what the network was trained on."""
        return (images - self.mean.to(images.dtype)) / self.std.to(images.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, n) of images (B, C, H, W) in [0, 1]."""
        logits: Tensor = self.net(self.normalise(images))
        return logits

    def decide(self, images: Tensor) -> Tensor:
        """Labels: class indices (B,), or 0/1 vectors (B, n)."""
        return self.encoding.decide(self(images))

    def linearise(self, images: Tensor) -> Linearisation:
        """The classifier around images (B, C, H, W): logits (B, n), and products with their Jacobian by the image.

        Costs one forward pass; the products cost what they say.
        """
        own = getattr(self.net, "linearise", None)
        local: Linearisation = Linearisation(self, images) if own is None else own(images, self.normalise)
        local.use(self.calibration)
        return local

    def logits_and_jacobian(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, n) and their Jacobian (B, n, C, H, W) by the image, both detached.

        Costs one forward pass and n vector-Jacobian products.
        """
        local = self.linearise(images)
        return local.values, local.jacobian()


@contextmanager
def ready_for_attack(classifier: nn.Module) -> Iterator[None]:
    """Evaluation mode, frozen parameters and full single precision inside; everything as it was afterwards.

    An autocast region around a call does not reach the classifier; parameters keep their types. See
    :func:`wolfe.precision.full_precision`.
    """
    modes = [(module, module.training) for module in classifier.modules()]
    needs = [(parameter, parameter.requires_grad) for parameter in classifier.parameters()]
    classifier.eval()
    for parameter, _ in needs:
        parameter.requires_grad_(False)
    devices = {"cpu", *(tensor.device.type for tensor in [*classifier.parameters(), *classifier.buffers()])}
    try:
        with full_precision(devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, required in needs:
            parameter.requires_grad_(required)
