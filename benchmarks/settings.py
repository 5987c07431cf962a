"""What a run of the benchmark is told, and its clock."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Settings:
    """What a run is told.

    Attributes:
        device: "cpu" or "cuda".
        threads: of torch, scipy and the interior-point solver alike.
        quick: small sizes and few rounds, for a look; what is reported comes from a run without it.
        seed: of networks, images and targets.
        out: folder of the tables and plots.
        work: folder of the data and networks that are made on the way; they are kept for the next run.
        images: a folder of pictures (or of parquet files with an `image` column) for the large networks; None for the
            photographs of scikit-image.
        command: the command line, as it is put into every file.
    """

    device: str = "cpu"
    threads: int = 1
    quick: bool = False
    seed: int = 20240
    out: Path = Path("benchmarks/results")
    work: Path = Path("results/benchmark")
    images: Path | None = None
    command: str = "python -m benchmarks"

    def pick(self, quick: Value, whole: Value) -> Value:
        """One of two values, by `quick`."""
        return quick if self.quick else whole


@dataclass
class Clock:
    """The time a question may take, and what was left out for want of it.

    Attributes:
        seconds: the time.
        left_out: one sentence for each thing that was not run.
    """

    seconds: float
    left_out: list[str] = field(default_factory=list)
    _begin: float = field(default_factory=time.perf_counter)

    def left(self) -> float:
        """Seconds that are left; below 0 when the time is over."""
        return self.seconds - (time.perf_counter() - self._begin)

    def allows(self, what: str, expected: float) -> bool:
        """Whether there is time for what should take `expected` seconds; if not, it is noted as left out.

        Infinite seconds stand for what could not be run at a smaller size.
        """
        if expected <= self.left():
            return True
        why = f"about {expected:.0f} s expected, {max(0.0, self.left()):.0f} s left"
        if math.isinf(expected):
            why = "a smaller size was too much"
        self.left_out.append(f"Not run: {what} ({why}).")
        return False
