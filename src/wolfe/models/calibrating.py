"""Measures which way to products with a classifier's Jacobian is the fastest on the machine at hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from typing import get_args

import torch
from torch import Tensor

from wolfe.classifier import Classifier, ready_for_attack
from wolfe.linear.calibration import FIXED, Calibration, Push
from wolfe.linear.jacobian import Linearisation
from wolfe.linear.memory import out_of_memory

# How many rows to take together, and how often at most each way is measured.
_ROWS, _ROUNDS = (4, 16), 9
# What is not faster by this share of its time is not preferred to the fixed rule's choice: measurements are noisy.
_MARGIN = 0.9


def calibrate(classifier: Classifier, images: Tensor, seconds: float = 3.0) -> Calibration:
    """The fastest ways to rows of a classifier's Jacobian and to its products with vectors, by interleaved medians.

    Args:
        classifier: as it will be attacked; its own calibration does not matter and is not changed.
        images: (B, C, H, W) in [0, 1] on its device, as many as are attacked together.
        seconds: after these the measurement stops, once each way was taken. That takes at most 26 passes, and 10 where
            a pass is slow.

    Returns:
        The calibration, which holds on this kind of device.

    Raises:
        ValueError: there are no images.
    """
    if len(images) == 0:
        raise ValueError("calibrate: at least one image is needed")
    with ready_for_attack(classifier):
        times = _measured(classifier.linearise(images), images, seconds)
    together, least, row = _of_rows(times, images.numel(), classifier.encoding.size)
    push, product = _of_pushes(times)
    cost = FIXED.push_cost if product is None else round(max(product / row, 0.01), 2)
    return Calibration(images.device.type, torch.__version__.split("+")[0], together, least, push, cost)


def _measured(local: Linearisation, images: Tensor, seconds: float) -> dict[str | int, float]:
    """Median seconds of each way: a number of rows, or the name of a way to a Jacobian-vector product."""
    weights = local.values.new_zeros(len(images), max(_ROWS), local.values.shape[1])
    weights[:, :, 0] = 1

    def rows(count: int) -> None:
        local.calibration = replace(FIXED, together=count * images.numel(), vectorised_from=2)
        local.rows(weights[:, :count])

    ways: dict[str | int, Callable[[], object]] = {count: partial(rows, count) for count in (1, *_ROWS)}
    ways |= {way: partial(local.push_by, way, images) for way in get_args(Push)}
    found: dict[str | int, list[float]] = {}
    begin = time.perf_counter()
    for number in range(_ROUNDS):
        for way in list(ways):
            # What takes long is measured once, and the longest not at all.
            limit = seconds if number else seconds / 8 if way == max(_ROWS) else math.inf
            if time.perf_counter() - begin > limit:
                continue
            taken = _seconds(ways[way], images.device)
            if taken is None:
                del ways[way]
            else:
                found.setdefault(way, []).append(taken)
    # The first time is that of a library that chooses its kernels, where there are others.
    return {way: median(found[way][1:] or found[way]) for way in ways if way in found}


def _seconds(work: Callable[[], object], device: torch.device) -> float | None:
    """Seconds of a piece of work; None where a layer has no such derivative."""
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronise()
    begin = time.perf_counter()
    try:
        work()
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return None
    synchronise()
    return time.perf_counter() - begin


def _of_rows(times: Mapping[str | int, float], numbers: int, outputs: int) -> tuple[int, int | None, float]:
    """How many values to take together, from how many rows on, and the seconds of a row taken so.

    Args:
        times: see `_measured`.
        numbers: values of all images.
        outputs: rows that there are.
    """
    each = {
        count: times[count] / count for count in (1, *_ROWS) if count in times and count <= max(outputs, min(_ROWS))
    }
    good = [count for count in each if count > 1 and each[count] < _MARGIN * each[1]]
    if not good:
        # So many images are taken row by row; fewer of them at a time as by the fixed rule.
        return min(FIXED.together, min(_ROWS) * numbers - 1), FIXED.vectorised_from, each[1]
    best = min(good, key=lambda count: each[count])
    together = best * numbers if best < max(each) else max(best * numbers, FIXED.together)
    return together, min(good), each[best]


def _of_pushes(times: Mapping[str | int, float]) -> tuple[Push, float | None]:
    """The way to a Jacobian-vector product and its seconds; None where layers have none."""
    usual, other = "forward", "double_backward"
    if other in times and (usual not in times or times[other] < _MARGIN * times[usual]):
        return "double_backward", times[other]
    return "forward", times.get(usual)
