"""Runs one input through a reader: a crash, or a time that is too long, is an error that keeps the input."""

from __future__ import annotations

import hashlib
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.readers import EXPECTED, Reader

SECONDS = 10.0
"""What reading one small file may take at most, on a slow machine with much else to do."""


class HangError(BaseException):
    """An input took too long; no reader may catch this."""


class CrashError(Exception):
    """A reader failed in a way that is not documented; the message names the input that was kept."""


def check(reader: Reader, content: bytes, kept: Path) -> bool:
    """Reads an input.

    Args:
        reader: of its kind.
        content: of the file.
        kept: a folder for an input that fails.

    Returns:
        Whether it was read; false if it was refused as documented.

    Raises:
        CrashError: neither.
    """
    kept.mkdir(parents=True, exist_ok=True)
    # A library that ends the whole process leaves this.
    (kept / f"last-{reader.name}").write_bytes(content)
    try:
        with time_limit(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(content)
    except EXPECTED:
        return False
    except (Exception, HangError) as error:
        raise CrashError(f"{reader.name}: {error!r:.300}, {_keep(content, kept)}") from error
    return True


def _keep(content: bytes, kept: Path) -> Path:
    path = kept / hashlib.sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    return path


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends what takes longer, if it is Python that takes it."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(reader: Reader, inputs: int, start: int, kept: Path | None = None) -> tuple[int, int]:
    """Changes a reader's valid files by hypothesis and reads what comes of it.

    Args:
        reader: what reads.
        inputs: how many.
        start: the seed; the same one gives the same inputs.
        kept: a folder for an input that fails; None for a temporary one.

    Returns:
        How many inputs were tried, and how many of them were read.

    Raises:
        CrashError: a reader fails in a way that is not documented.
    """
    counts = [0, 0]
    place = kept or Path(tempfile.gettempdir()) / "wolfe-fuzz"

    # Hypothesis tells an input that was there already; the number keeps them apart.
    @seed(start)
    @settings(
        max_examples=inputs, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, (1 << 64) - 1), st.sampled_from(reader.valid))
    def read(number: int, content: bytes) -> None:
        counts[0] += 1
        counts[1] += check(reader, reader.change(Random(number), content), place)

    read()
    return counts[0], counts[1]


def check_valid(reader: Reader, kept: Path) -> None:
    """Makes sure that a reader reads the files that the fuzzer starts from; else it would test little.

    Raises:
        CrashError: it does not.
    """
    if not any(check(reader, content, kept) for content in reader.valid):
        raise CrashError(f"{reader.name} reads none of its valid files")
