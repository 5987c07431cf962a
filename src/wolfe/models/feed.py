"""Batches of a data set for training: decoded once, shuffled by seed and epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wolfe.data.image_set import ImageSet
from wolfe.seeding import torch_generator

# Sets of up to this many bytes of float32 are decoded once and kept; larger ones are read batch by batch.
MEMORY_LIMIT = 2 * 1024**3


class Batches(Dataset[tuple[Tensor, Tensor]], ABC):
    """A data set that is asked for whole batches: item `indices` (a list) is a batch and its labels."""

    labels: Tensor

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""


class Feed(Batches):
    """The images of a data set.

    Args:
        images: the split to read.

    Item `indices` (a list) is images (k, C, H, W) in [0, 1] and their labels: (k,) or (k, n), int64.
    """

    def __init__(self, images: ImageSet) -> None:
        self._set = images
        self.labels = images.labels
        channels, height, width = images.shape
        small = 4 * len(images) * channels * height * width <= MEMORY_LIMIT
        self._decoded = images.images(range(len(images))) if small else None

    def __len__(self) -> int:
        return len(self._set)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        pictures = self._set.images(indices) if self._decoded is None else self._decoded[indices]
        return pictures, self.labels[indices]

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pictures, rounded to 4 digits."""
        count = 0
        total = squares = torch.zeros((), dtype=torch.float64)
        for indices in torch.arange(len(self)).split(1024):
            pictures = self[indices.tolist()][0].double()
            count += pictures.numel() // pictures.shape[1]
            total = total + pictures.sum(dim=(0, 2, 3))
            squares = squares + (pictures**2).sum(dim=(0, 2, 3))
        mean = total / count
        deviation = (squares / count - mean**2).clamp(min=1e-8).sqrt()
        return [round(value, 4) for value in mean.tolist()], [round(value, 4) for value in deviation.tolist()]


class EpochBatches(Sampler[list[int]]):
    """Shuffled batches, in an order that depends on the seed and the epoch alone.

    A resumed training so goes on exactly as it would have.

    Args:
        count: number of images.
        batch_size: images a batch; a smaller last batch is left out, unless it is the only one.
        seed: the training's seed.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count = count
        self.batch_size = min(batch_size, count)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Told by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch_generator(self.seed, "batches", str(self.epoch))
        order = torch.randperm(self.count, generator=generator).tolist()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]


class OrderedBatches(Sampler[list[int]]):
    """All images in order, the last batch as it comes."""

    def __init__(self, count: int, batch_size: int = 256) -> None:
        self.count = count
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.count, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.count)))


def loader(feed: Batches, batches: Sampler[list[int]]) -> DataLoader[tuple[Tensor, Tensor]]:
    """A data loader that takes whole batches from the feed."""
    # Its own generator: otherwise each pass draws a seed for workers from the global one.
    return DataLoader(feed, sampler=batches, batch_size=None, generator=torch.Generator())
