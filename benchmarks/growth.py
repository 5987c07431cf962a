"""Question 5: how do time and memory grow with outputs, image size, batch and number of images?"""

from __future__ import annotations

import ctypes
import gc
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import problems
from benchmarks.answer import COLOURS, MARKERS, Answer, plain_numbers
from benchmarks.problems import Case
from benchmarks.settings import Clock, Settings
from benchmarks.timing import interleaved, seconds, spread
from wolfe.attacks import JMA
from wolfe.attacks.linear_step import Solver
from wolfe.models.folding import for_attack

# Two linearised problems an image and no bisection: the same work at every size.
_PARAMETERS: dict[str, Any] = {"step_size": 0.5, "max_iterations": 2, "search_steps": 0}
_SOLVERS: tuple[Solver, ...] = ("dense", "lazy")
_BATCH = 64
# Digits that there are; more images repeat them.
_DIGITS = 1797
_PAGE = 4096


class PeakMemory:
    """The most memory in use while something runs, above what was in use before; bytes, NaN where unknown."""

    def __init__(self, device: str) -> None:
        self.bytes = float("nan")
        self._cuda = device.startswith("cuda")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watches while the block runs: torch's own count on CUDA, else the resident pages, 500 times a second."""
        gc.collect()
        _give_back()
        if self._cuda:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            yield
            self.bytes = float(torch.cuda.max_memory_allocated() - before)
            return
        before_rss, done, peaks = _resident(), threading.Event(), [0.0]

        def look() -> None:
            while not done.wait(0.002):
                peaks[0] = max(peaks[0], _resident() - before_rss)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.bytes = peaks[0]


def _give_back() -> None:
    """Asks glibc to give freed memory back, so that what is in use before is what is needed."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> float:
    """Bytes of this process in memory."""
    pages = Path("/proc/self/statm")
    return float(pages.read_text().split()[1]) * _PAGE if pages.is_file() else float("nan")


def answer(settings: Settings) -> Answer:
    """Lets one thing grow at a time, until the clock ends it."""
    clock = Clock(settings.pick(60.0, 330.0))
    rows: list[dict[str, Any]] = []
    for what, sizes, make in _growths(settings):
        share = Clock(min(clock.left(), 0.27 * clock.seconds))
        rows += _grow(settings, share, what, sizes, make)
        clock.left_out += share.left_out
    rows += _images(settings, clock)
    notes = [
        "Seconds of an image and peak memory of a batch: JMA with at most two linearised problems an image and no "
        "bisection; medians of interleaved rounds with quartiles. Memory is what the attack adds to the network and "
        "the images: resident pages (those that the process freed and kept are not seen), or torch's count.",
        "Outputs: one-hot, batch 4, a narrow VGG16 at 32x32. Image size: multi-label 20, batch 8, ResNet18. Batch: "
        f"multi-label 20, the narrow VGG16. Images: ECOC 16, an ensemble, 32x32, {_BATCH} in work at a time "
        f"(beyond {_DIGITS} they repeat); two processes are warm and have half of the threads each, at least one; "
        "memory is that of the one process.",
    ]
    return Answer("growth", "Growth of time and memory", pd.DataFrame(rows), _draw, notes + clock.left_out, (11, 7))


def _growths(settings: Settings) -> list[tuple[str, tuple[int, ...], Callable[[int], Case]]]:
    """What grows, its sizes, and a case for a size."""
    outputs = settings.pick((10, 100, 300), (10, 30, 100, 300, 1000, 2000))
    sides = settings.pick((32, 48, 64), (32, 64, 128, 224))
    batches = settings.pick((1, 8, 32), (1, 4, 16, 64, 256))
    return [
        ("outputs", outputs, lambda size: problems.classes(settings, size, settings.pick(2, 4), 32, narrow=True)),
        ("image size", sides, lambda side: problems.labels(settings, 5, settings.pick(2, 8), side)),
        ("batch", batches, lambda batch: problems.labels(settings, 5, batch, 32, narrow=True)),
    ]


def _grow(
    settings: Settings, clock: Clock, what: str, sizes: tuple[int, ...], make: Callable[[int], Case]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    rounds = settings.pick(2, 3)
    # Seconds of a whole run, by attack, at the size before; what was too slow there is not tried again.
    known: dict[str, float] = {}
    before = sizes[0]
    for size in sizes:
        attacks = {f"JMA {solver}": JMA(solver=solver, **_PARAMETERS) for solver in _SOLVERS}
        factor = (size / before) ** (2 if what == "image size" else 1)
        chosen = {
            name: attack
            for name, attack in attacks.items()
            if clock.allows(
                f"{what} {size}, {name}", (rounds + 1) * factor * known.get(name, math.inf if rows else 0.5)
            )
        }
        if chosen:
            found, known = _measure(settings, what, size, make(size), chosen, rounds)
            rows += found
        else:
            known = {}
        before = size
    return rows


def _measure(
    settings: Settings, what: str, size: int, case: Case, attacks: dict[str, JMA], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    network = for_attack(case.classifier, case.images[:2]) if settings.device == "cpu" else case.classifier
    memory: dict[str, float] = {}
    for name, attack in attacks.items():
        peak = PeakMemory(settings.device)
        attack(network, case.images[:1], case.targets[:1])
        with peak.watch():
            attack(network, case.images, case.targets)
        memory[name] = peak.bytes / 2**20
    contestants = {name: _run(settings, attack, network, case) for name, attack in attacks.items()}
    measured = interleaved(contestants, rounds, warm=[])
    rows = [_row(what, size, name, [value / len(case.images) for value in values], memory[name])
            for name, values in measured.items()]  # fmt: skip
    return rows, {name: spread(values).median for name, values in measured.items()}


def _run(settings: Settings, attack: JMA, network: Any, case: Case) -> Callable[[], float]:
    return lambda: seconds(lambda: attack(network, case.images, case.targets), settings.device)


def _row(what: str, size: int, method: str, each: list[float], memory: float) -> dict[str, Any]:
    own = spread(each)
    return {
        "grows": what, "size": size, "method": method, "rounds": len(each),
        "seconds_an_image": own.median, "low": own.low, "high": own.high, "peak_mib": memory,
    }  # fmt: skip


def _images(settings: Settings, clock: Clock) -> list[dict[str, Any]]:
    """Many images, in one process and sharded over two."""
    rows: list[dict[str, Any]] = []
    context = get_context("spawn")
    half = replace(settings, threads=max(1, settings.threads // 2))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(_shard, [half, half], [_BATCH, _BATCH]))
        each = _shard(settings, _BATCH) / _BATCH
        for count in settings.pick((10, 100), (10, 100, 1000, 10_000)):
            rounds = 3 if count <= 100 else 1
            if not clock.allows(f"{count} images", 2 * rounds * each * count):
                continue
            peak = PeakMemory(settings.device)
            contestants: dict[str, Callable[[], float]] = {
                "one process": partial(_watched, peak, settings, count),
                "two processes": partial(_two_shards, pool, half, count),
            }
            measured = interleaved(contestants, rounds, warm=[])
            memory = {"one process": peak.bytes / 2**20}
            rows += [_row("images", count, name, [value / count for value in values], memory.get(name, float("nan")))
                     for name, values in measured.items()]  # fmt: skip
    return rows


def _watched(peak: PeakMemory, settings: Settings, count: int) -> float:
    """One process, its memory watched."""
    with peak.watch():
        return _shard(settings, count)


def _two_shards(pool: ProcessPoolExecutor, settings: Settings, count: int) -> float:
    return seconds(lambda: list(pool.map(_shard, [settings, settings], [count - count // 2, count // 2])))


_CASES: dict[str, Case] = {}


def _shard(settings: Settings, count: int) -> float:
    """Attacks so many images in one call, a batch of them in work at a time; returns the seconds it took."""
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    if settings.device not in _CASES:
        case = problems.code(settings, _DIGITS)
        network = for_attack(case.classifier, case.images[:2]) if settings.device == "cpu" else case.classifier
        _CASES[settings.device] = Case(case.name, network, case.images, case.targets)
    case = _CASES[settings.device]
    chosen = torch.arange(count) % len(case.images)
    images, targets = case.images[chosen], case.targets[chosen]
    return seconds(lambda: JMA(**_PARAMETERS)(case.classifier, images, targets, batch_size=_BATCH), settings.device)


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    """Seconds an image above, peak memory below, a column for each thing that grows."""
    kinds = list(dict.fromkeys(table["grows"]))
    axes = figure.subplots(2, len(kinds), squeeze=False)
    for column, kind in enumerate(kinds):
        part = table[table["grows"] == kind]
        for number, method in enumerate(dict.fromkeys(part["method"])):
            own = part[part["method"] == method].sort_values("size")
            style: dict[str, Any] = {"color": COLOURS[number], "marker": MARKERS[number], "markersize": 4}
            error = [own["seconds_an_image"] - own["low"], own["high"] - own["seconds_an_image"]]
            axes[0][column].errorbar(own["size"], own["seconds_an_image"], yerr=error, capsize=2, label=method, **style)
            axes[1][column].plot(own["size"], own["peak_mib"], **style)
        axes[0][column].set(xscale="log", yscale="log", title=kind)
        plain_numbers(axes[0][column].xaxis, axes[0][column].yaxis)
        axes[0][column].legend(fontsize=7)
        axes[1][column].set(xscale="log", xlabel=kind)
        if part["peak_mib"].notna().any():
            axes[1][column].set_yscale("log")
            plain_numbers(axes[1][column].xaxis, axes[1][column].yaxis)
        else:
            axes[1][column].set_axis_off()
    axes[0][0].set_ylabel("seconds an image")
    axes[1][0].set_ylabel("peak memory, MiB")
