"""Question 3: how much of the time is not the model's, and how far is the wall time above the passes' own?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import problems, trial
from benchmarks.answer import COLOURS, Answer
from benchmarks.problems import Case
from benchmarks.settings import Clock, Settings
from benchmarks.timing import seconds, spread
from wolfe.attacks import JMA, Attack, AttackResult, RefinedJMA
from wolfe.classifier import Classifier, ready_for_attack
from wolfe.linear import Linearisation
from wolfe.models.folding import for_attack

_ROWS = 20


class ModelTime:
    """Seconds spent inside the model: passes forwards, backwards and in forward mode, wherever they begin."""

    def __init__(self, device: str) -> None:
        self.seconds = 0.0
        self._device = device
        self._depth = 0

    def watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted unless it runs inside another one that is watched."""

        def run(*arguments: Any, **options: Any) -> Any:
            if self._depth:
                return function(*arguments, **options)
            self._depth += 1
            begin = _now(self._device)
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += _now(self._device) - begin
                self._depth -= 1

        return run


def _now(device: str) -> float:
    """The clock, once the device has done what was started."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def model_time(device: str) -> Iterator[ModelTime]:
    """Watches every pass through a classifier while the block runs."""
    watch = ModelTime(device)
    places: list[tuple[Any, str]] = [
        (Classifier, "forward"), (Classifier, "linearise"), (Linearisation, "push"), (torch.autograd, "grad"),
    ]  # fmt: skip
    before = [getattr(owner, name) for owner, name in places]
    try:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, watch.watched(function))
        yield watch
    finally:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, function)


def answer(settings: Settings) -> Answer:
    """Measures JMA with dense and with lazy rows, and the refined attack, on three kinds of problem."""
    clock = Clock(settings.pick(50.0, 300.0))
    rows: list[dict[str, Any]] = []
    notes = [
        "Outside: the share of an attack's wall time that no pass through the model takes. Over the floor: wall time "
        "over (forwards x time of a forward pass + vector-Jacobian products x time of one + Jacobian-vector products x "
        "time of one), each measured on a whole batch just before and after, the cheapest way to take it.",
        "Medians of rounds with quartiles; the networks have drawn weights and, on a processor, folded normalisations.",
    ]
    for make in _cases(settings):
        case = make()
        for name, attack in _attacks(settings).items():
            if name == "JMA dense" and case.classifier.encoding.size > 100:
                continue
            enough = clock.allows(f"{name}, {case.name}", settings.pick(4.0, 10.0))
            if enough and trial.runs(name, attack, case, notes):
                rows.append(_measure(settings, case, name, attack))
    notes = list(dict.fromkeys(notes))
    return Answer("overhead", "Time that is not the model's", pd.DataFrame(rows), _draw, notes + clock.left_out)


def _cases(settings: Settings) -> list[Callable[[], Case]]:
    count = settings.pick(4, 32)
    if settings.device != "cpu":
        return [partial(_large, settings, name, count) for name in problems.LARGE]
    return [
        lambda: _folded(settings, problems.code(settings, settings.pick(8, 32))),
        lambda: _folded(settings, problems.labels(settings, 5, count)),
        lambda: _folded(settings, problems.classes(settings, settings.pick(200, 1000), count)),
    ]


def _large(settings: Settings, name: str, count: int) -> Case:
    return problems.large(settings, name, 5, count)


def _folded(settings: Settings, case: Case) -> Case:
    if settings.device != "cpu":
        return case
    return Case(case.name, for_attack(case.classifier, case.images[:2]), case.images, case.targets)


def _attacks(settings: Settings) -> dict[str, Attack]:
    parameters: dict[str, Any] = {"step_size": 0.5, "max_iterations": settings.pick(3, 6)}
    return {
        "JMA dense": JMA(solver="dense", **parameters),
        "JMA lazy": JMA(solver="lazy", **parameters),
        "refined": RefinedJMA(max_iterations=settings.pick(4, 8)),
    }


def _measure(settings: Settings, case: Case, name: str, attack: Attack) -> dict[str, Any]:
    shares, over = [], []
    for _ in range(settings.pick(2, 3)):
        before = pass_costs(case, settings.device)
        begin = _now(settings.device)
        with model_time(settings.device) as watch:
            result = attack(case.classifier, case.images, case.targets)
        wall = _now(settings.device) - begin
        after = pass_costs(case, settings.device)
        costs = tuple((first + second) / 2 for first, second in zip(before, after, strict=True))
        shares.append(1 - watch.seconds / wall)
        over.append(wall / floor(result, costs))
    share, ratio = spread(shares), spread(over)
    return {
        "case": case.name, "attack": name, "images": len(case.images), "rounds": len(shares),
        "outside": share.median, "outside_low": share.low, "outside_high": share.high,
        "over_floor": ratio.median, "over_low": ratio.low, "over_high": ratio.high,
        "forwards": float(result.forwards.double().mean()), "vjps": float(result.vjps.double().mean()),
        "jvps": float(result.jvps.double().mean()),
    }  # fmt: skip


def floor(result: AttackResult, costs: Sequence[float]) -> float:
    """Seconds that an attack's passes would take in whole batches, given one image's share of each of the three."""
    passes = (result.forwards, result.vjps, result.jvps)
    return sum(float(count.sum()) * cost for count, cost in zip(passes, costs, strict=True))


def pass_costs(case: Case, device: str) -> tuple[float, float, float]:
    """Seconds of an image's forward pass, vector-Jacobian and Jacobian-vector product within a whole batch."""
    classifier, images = case.classifier, case.images
    count, size = len(images), classifier.encoding.size
    with ready_for_attack(classifier):
        with torch.no_grad():
            forward = min(seconds(lambda: classifier(images), device) for _ in range(2)) / count
        local = classifier.linearise(images)
        several = torch.eye(size, device=images.device)[: min(size, _ROWS)].expand(count, -1, -1)
        products = [seconds(lambda: local.rows(several), device) / several.shape[1]]
        products += [seconds(lambda: local.rows(several[:, :1]), device) for _ in range(2)]
        # An ensemble pays for its rows when it is linearised; what that takes beyond a forward pass is theirs.
        extra = 0.0
        if type(local) is not Linearisation:
            extra = max(0.0, seconds(lambda: classifier.linearise(images), device) / count - forward) / size
        push = seconds(lambda: local.push(images), device) / count
    return forward, min(products) / count + extra, push


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    """Both measures as bars, by case and attack, with the goals as lines."""
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(table["attack"]))
    parts = (
        (left, "outside", "outside_low", "outside_high", 0.05, "share of time outside the model"),
        (right, "over_floor", "over_low", "over_high", 1.3, "wall time over the pass floor"),
    )
    for axes, middle, low, high, goal, label in parts:
        error = [table[middle] - table[low], table[high] - table[middle]]
        colours = [COLOURS[names.index(name)] for name in table["attack"]]
        axes.barh(range(len(table)), table[middle], xerr=error, color=colours, capsize=2)
        axes.axvline(goal, color="#555555", linestyle="--", linewidth=0.8)
        axes.set_xlabel(f"{label} (dashed: goal)")
    left.set_yticks(range(len(table)), [f"{row.attack} - {row.case}" for row in table.itertuples()], fontsize=7)
    left.invert_yaxis()
