"""Question 1: how fast are whole attacks, single iterations and single linearised solves, against a plain reference?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from benchmarks import problems, reference, rivals, trial
from benchmarks.answer import COLOURS, Answer
from benchmarks.problems import Case
from benchmarks.settings import Clock, Settings
from benchmarks.timing import interleaved, ratios, seconds, spread
from wolfe.attacks import JMA, Attack, AttackResult
from wolfe.attacks.linear_step import Solver
from wolfe.classifier import ready_for_attack
from wolfe.linear import Linearisation, lazy_least_norm, least_norm
from wolfe.models.folding import for_attack

REFERENCE = "reference"
ATTACK, SOLVE, RIVAL = "attack", "linearised solve", "rival"
ITERATION = "seconds an iteration and image"
_SEARCH, _STEP, _MOST = 6, 0.5, 25


def answer(settings: Settings) -> Answer:
    """Measures it all; what the clock does not allow is left out and named."""
    clock = Clock(settings.pick(70.0, 700.0))
    rows: list[dict[str, Any]] = []
    notes = [
        "Seconds are of one image and one iteration (one linearised problem and its steps), of one image's whole "
        "attack, or of one solve: medians of interleaved rounds with quartiles. Ratios are reference / other, round by "
        "round: above 1 is faster. Whole attacks are of the images that the reference takes too.",
        "The reference takes one image at a time, a backward pass for each row, an SVD and an interior-point solver; "
        "ours take batches, on a copy of the network with folded normalisations (a processor's only).",
    ]
    rows += _rival_rows(settings, notes)
    outputs = settings.pick(200, 1000)
    if clock.allows(f"one-hot {outputs}, one solve", settings.pick(8.0, 150.0)):
        rows += _solve_rows(settings, outputs)
    for make in _cases(settings):
        rows += _attack_rows(settings, clock, make(), notes)
    return Answer(
        "speed", "Speed against a plain reference", pd.DataFrame(rows), _draw, notes + clock.left_out, (11, 10)
    )


def _cases(settings: Settings) -> list[Callable[[], Case]]:
    """What whole attacks are measured on, the most telling first."""
    count, flips = settings.pick(8, 32), settings.pick((5,), (2, 10, 5))
    if settings.device != "cpu":
        return [partial(problems.large, settings, name, flip, count) for flip in flips for name in problems.LARGE]
    several = [partial(problems.labels, settings, flip, count) for flip in flips]
    return [partial(problems.code, settings, count), *several]


def _attack_rows(settings: Settings, clock: Clock, case: Case, notes: list[str]) -> list[dict[str, Any]]:
    """Whole attacks on a case, each until it ends by itself, or at the most iterations."""
    iterations, rounds = settings.pick(3, _MOST), settings.pick(2, 3)
    with ready_for_attack(case.classifier):
        cost = seconds(lambda: reference.dense_step(case.classifier, case.images[:1], case.targets[:1]))
    # How many images the reference takes: what it can do in some seconds. Most end long before the last iteration, and
    # ours are several times as fast.
    alone = max(1, min(4, len(case.images), int(40.0 / max(1e-6, cost * iterations))))
    if not clock.allows(case.name, cost * iterations / 2 * rounds * (alone + len(case.images) / 4)):
        return []
    parameters: dict[str, Any] = {"step_size": _STEP, "max_iterations": iterations, "search_steps": _SEARCH}
    folded = for_attack(case.classifier, case.images[:2]) if settings.device == "cpu" else case.classifier
    whole: dict[str, list[float]] = {REFERENCE: []}
    contestants = {REFERENCE: _timed_reference(case.part(alone), parameters, whole[REFERENCE])}
    solvers: tuple[Solver, ...] = ("dense", "lazy")
    for solver in solvers:
        attack = JMA(solver=solver, **parameters)
        same = Case(case.name, folded, case.images, case.targets)
        if trial.runs(f"JMA {solver}", attack, same.part(4), notes):
            whole[f"JMA {solver}"] = []
            contestants[f"JMA {solver}"] = _timed_attack(attack, same, alone, whole[f"JMA {solver}"])
    measured = interleaved(contestants, rounds, warm=[])
    images = {name: alone if name == REFERENCE else len(case.images) for name in contestants}
    return _rows(ATTACK, case.name, ITERATION, measured, images) + _rows(
        ATTACK,
        case.name,
        f"seconds an image, whole attack of at most {iterations} iterations",
        {name: values[-rounds:] for name, values in whole.items()},
        images,
    )


def _timed_reference(case: Case, parameters: Mapping[str, Any], whole: list[float]) -> Callable[[], float]:
    def run() -> float:
        with ready_for_attack(case.classifier):
            pairs = zip(case.images.split(1), case.targets.split(1), strict=True)
            results = [reference.attack(case.classifier, image, target, **parameters) for image, target in pairs]
        total = sum(result.seconds for result in results)
        whole.append(total / len(results))
        return total / max(1, sum(result.solves for result in results))

    return run


def _timed_attack(attack: Attack, case: Case, alone: int, whole: list[float]) -> Callable[[], float]:
    """The batch's time over its solves; `whole` gets the share of the images that the reference attacks too."""

    def run() -> float:
        begin = time.perf_counter()
        result = attack(case.classifier, case.images, case.targets)
        _ = result.success.sum().item()
        taken = time.perf_counter() - begin
        whole.append(float(result.seconds[:alone].mean()))
        return taken / max(1, solves(result, _SEARCH))

    return run


def solves(result: AttackResult, search_steps: int) -> int:
    """Linearised problems that JMA solved: its iterations, less the bisections that its paper counts among them."""
    reached = result.first_success > 0
    return int(torch.where(reached, result.iterations - search_steps + 1, result.iterations).sum())


def _solve_rows(settings: Settings, outputs: int) -> list[dict[str, Any]]:
    """One linearised problem with many outputs: dense, and lazy from nothing and from the problem before."""
    case = problems.classes(settings, outputs, settings.pick(4, 16))
    folded = for_attack(case.classifier, case.images[:2]) if settings.device == "cpu" else case.classifier
    few, device = 2, settings.device
    contestants: dict[str, Callable[[], float]] = {}

    def plain() -> float:
        with ready_for_attack(case.classifier):
            return seconds(lambda: reference.dense_step(case.classifier, case.images[:1], case.targets[:1]), device)

    def dense() -> float:
        region = case.classifier.encoding.region(case.targets[:few])

        def work() -> None:
            logits, jacobian = folded.logits_and_jacobian(case.images[:few])
            least_norm(jacobian, logits, region)

        return seconds(work, device) / few

    contestants = {REFERENCE: plain, "dense, batched": dense, **_lazy_solves(case, folded, device)}
    warm = [name for name in contestants if name.startswith("lazy")]
    measured = interleaved(contestants, settings.pick(2, 3), warm=warm)
    images = {REFERENCE: 1, "dense, batched": few}
    every = {name: images.get(name, len(case.images)) for name in contestants}
    return _rows(SOLVE, case.name, "seconds an image", measured, every)


def _lazy_solves(case: Case, folded: Any, device: str) -> dict[str, Callable[[], float]]:
    """Lazy solves: cold at the images, and warm half a step further on, from the cold solve's working set."""
    region = case.classifier.encoding.region(case.targets)

    def solve(images: torch.Tensor, start: torch.Tensor | None) -> Any:
        local: Linearisation = folded.linearise(images)
        return lazy_least_norm(local, local.values, region, start=start)

    first = solve(case.images, None)
    step = first.solution.perturbation
    length = step.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    moved = (case.images + step * (_STEP / length).clamp(max=0.5)).clamp(0, 1)
    count = len(case.images)
    return {
        "lazy, cold": lambda: seconds(lambda: solve(case.images, None), device) / count,
        "lazy, warm": lambda: seconds(lambda: solve(moved, first.working), device) / count,
    }


def _rival_rows(settings: Settings, notes: list[str]) -> list[dict[str, Any]]:
    """Iterations of the rivals, on the same network each."""
    found = []
    for case, measured, against in rivals.measures(settings, notes):
        found += _rows(RIVAL, case.name, ITERATION, measured, dict.fromkeys(measured, len(case.images)), against)
    return found


def _rows(
    kind: str,
    case: str,
    unit: str,
    measured: Mapping[str, Sequence[float]],
    images: Mapping[str, int],
    against: str | None = REFERENCE,
) -> list[dict[str, Any]]:
    """A row for each contestant: its measure, and how many times less it is than that of `against`."""
    rows = []
    for name, values in measured.items():
        own = spread(values)
        times = ratios(measured[against], values) if against is not None else spread([])
        rows.append(
            {
                "kind": kind, "case": case, "measure": unit, "method": name, "images": images[name],
                "rounds": len(values), "median": own.median, "low": own.low, "high": own.high,
                "against": against or "", "ratio": times.median, "ratio_low": times.low, "ratio_high": times.high,
            }
        )  # fmt: skip
    return rows


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    """Ratios as bars, a case below the other."""
    shown = table[(table["method"] != table["against"]) & table["ratio"].notna()].iloc[::-1]
    axes = figure.subplots()
    methods = list(dict.fromkeys(table["method"]))
    for place, (_, row) in enumerate(shown.iterrows()):
        error = [[row["ratio"] - row["ratio_low"]], [row["ratio_high"] - row["ratio"]]]
        colour = COLOURS[methods.index(row["method"]) % len(COLOURS)]
        axes.barh(place, row["ratio"], xerr=error, color=colour, height=0.7, capsize=2)
        axes.annotate(f"{row['ratio']:.3g}", (row["ratio_high"], place), xytext=(3, 0), textcoords="offset points",
                      va="center", fontsize=7)  # fmt: skip
    names = [f"{row['method']} - {row['case']}\n{row['measure']}" for _, row in shown.iterrows()]
    axes.set_yticks(range(len(shown)), names, fontsize=6)
    axes.axvline(1, color="#555555", linewidth=0.8)
    axes.set(xscale="log", xlabel="times faster (median of interleaved rounds, quartiles)")
    axes.margins(x=0.15)
