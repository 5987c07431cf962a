"""A batch that a device's memory does not hold goes through a network in parts; what fitted is kept for later ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wolfe.linear.memory import in_memory

_Result = TypeVar("_Result")


class Portions:
    """How many images go through a network together.

    Attributes:
        size: as many as fitted; None while whole batches do.
    """

    def __init__(self) -> None:
        self.size: int | None = None

    def fitting(self, work: Callable[[int], _Result], images: int) -> _Result:
        """What some work gives with as many of a batch's images together as memory holds.

        Args:
            work: takes how many; tried again from its beginning with half as many when memory is used up.
            images: of the batch, at least 1.

        Raises:
            MemoryError: not even one image fits.
        """
        first = min(self.size or images, images)

        def noted(size: int) -> _Result:
            found = work(size)
            if size < first:
                self.size = size
            return found

        return in_memory(noted, first)

    def joined(self, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """A function (B, ...) of images (B, C, H, W) whose values do not depend on what else is in a batch."""

        def in_parts(size: int) -> Tensor:
            parts = [function(part) for part in images.split(size)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return self.fitting(in_parts, len(images))


class Start:
    """What a training step changes before its end, as it was at its beginning, so that it can begin again.

    Args:
        network: in training mode; statistics of its batch normalisations are kept.
        device: whose random generator is kept beside the processor's.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._device = device
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
        self._statistics = [(value, value.clone()) for norm in norms for value in norm.buffers()]
        self._random = torch.get_rng_state()
        self._of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Puts everything back."""
        for value, kept in self._statistics:
            value.copy_(kept)
        torch.set_rng_state(self._random)
        if self._of_device is not None:
            torch.cuda.set_rng_state(self._of_device, self._device)
