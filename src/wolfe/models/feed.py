"""Batches of a data set for training: decoded once or ahead of their use, shuffled by seed and epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wolfe.data.image_set import ImageSet
from wolfe.seeding import torch_generator

# Sets of up to this many bytes of float32 are decoded once and kept; of larger ones the batches that come next.
MEMORY_LIMIT = 2 * 1024**3
# Batches that are decoded at the same time, at most.
_THREADS = 8
# Images that statistics are added up over: as they come from memory, and from files.
_SUMMED, _SUMMED_OF_FILES = 1024, 128


class Batches(Dataset[tuple[Tensor, Tensor]], ABC):
    """A data set that is asked for whole batches: item `indices` (a list) is a batch and its labels."""

    labels: Tensor
    bytes_to_decode = 0
    """Bytes of an image that is decoded each time; 0 where nothing needs to be."""

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
        size = 4 * channels * height * width
        small = len(images) * size <= MEMORY_LIMIT
        self._decoded = images.images(range(len(images))) if small else None
        self.bytes_to_decode = 0 if small else size

    def __len__(self) -> int:
        return len(self._set)

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        pictures = self._set.images(indices) if self._decoded is None else self._decoded[indices]
        return pictures, self.labels[indices]

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all pictures, rounded to 4 digits."""
        count = 0
        total = squares = torch.zeros((), dtype=torch.float64)
        together = _SUMMED if self._decoded is not None else _SUMMED_OF_FILES
        for batch, _ in loader(self, OrderedBatches(len(self), together)):
            pictures = batch.double()
            count += pictures.numel() // pictures.shape[1]
            total = total + pictures.sum(dim=(0, 2, 3))
            squares = squares + (pictures**2).sum(dim=(0, 2, 3))
        mean = total / count
        deviation = (squares / count - mean**2).clamp(min=1e-8).sqrt()
        return [round(value, 4) for value in mean.tolist()], [round(value, 4) for value in deviation.tolist()]


class IndexBatches(Sampler[list[int]]):
    """Which images a batch holds, batch after batch.

    Attributes:
        batch_size: of the largest.
    """

    batch_size: int


class EpochBatches(IndexBatches):
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


class OrderedBatches(IndexBatches):
    """All images in order, the last batch as it comes."""

    def __init__(self, count: int, batch_size: int = 256) -> None:
        self.count = count
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self.count, self.batch_size):
            yield list(range(start, min(start + self.batch_size, self.count)))


class _AheadLoader(DataLoader[tuple[Tensor, Tensor]]):
    """Batches in their order, of which the next ones are decoded by threads while one is used.

    Threads, not processes: decoding lets others run, and batches need not go through shared memory, of which
    containers have little.
    """

    def __init__(self, feed: Batches, batches: IndexBatches) -> None:
        super().__init__(feed, sampler=batches, batch_size=None, generator=torch.Generator())
        # As many batches as keep below what is kept of a small set.
        room = MEMORY_LIMIT // (feed.bytes_to_decode * batches.batch_size)
        # Torch's threads are the cores that a job was given.
        self.ahead = max(1, min(_THREADS, torch.get_num_threads(), room))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        pool = ThreadPoolExecutor(self.ahead, "decoding")
        waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
        try:
            for indices in self.sampler:
                waiting.append(pool.submit(self.dataset.__getitem__, indices))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def loader(feed: Batches, batches: IndexBatches) -> DataLoader[tuple[Tensor, Tensor]]:
    """A data loader that takes whole batches from the feed; what needs decoding is decoded ahead."""
    if feed.bytes_to_decode:
        return _AheadLoader(feed, batches)
    # Its own generator: otherwise each pass draws a seed for workers from the global one.
    return DataLoader(feed, sampler=batches, batch_size=None, generator=torch.Generator())
