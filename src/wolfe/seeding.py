"""Random generators by name, so that a draw depends on what it is for and never on the order of the work."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_for(seed: int, *names: str) -> int:
    """A seed in [0, 2**63) from the study's seed and the names of what is drawn (stage, image id, ...)."""
    text = "\x1f".join([str(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str) -> np.random.Generator:
    """A NumPy generator seeded by :func:`seed_for`."""
    return np.random.default_rng(seed_for(seed, *names))


def torch_generator(seed: int, *names: str) -> torch.Generator:
    """A torch generator (CPU) seeded by :func:`seed_for`."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, *names))
