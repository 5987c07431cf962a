"""Question 2: the solver alone, on random problems, against scipy and an interior-point solver."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.linalg import qr
from scipy.optimize import nnls

from benchmarks.answer import COLOURS, MARKERS, Answer
from benchmarks.reference import interior_point
from benchmarks.settings import Clock, Settings
from benchmarks.timing import interleaved, ratios, seconds, spread
from wolfe.encoding import Encoding, MultiLabel, OneHot
from wolfe.linear import least_norm
from wolfe.region import TargetRegion
from wolfe.seeding import torch_generator

Matrix = NDArray[np.float64]
OURS = "wolfe, batch"
# What a residual that means no solution is drawn at.
_UNSOLVED = 1e3
_VALUES = 3072
_KINDS = ("labels", "labels, half rank", "classes")


@dataclass(frozen=True)
class Random:
    """Random problems that have a solution.

    Attributes:
        jacobian: (B, n, values).
        logits: (B, n).
        region: of the targets, which some random perturbation reaches.
        systems: of each image, A = R J (k, values) and b = R v (k,), float64: minimise ||d||, A d <= -b.
    """

    jacobian: torch.Tensor
    logits: torch.Tensor
    region: TargetRegion
    systems: list[tuple[Matrix, Matrix]]


def answer(settings: Settings) -> Answer:
    """Measures every kind and size that the clock allows."""
    clock = Clock(settings.pick(45.0, 200.0))
    sizes = settings.pick((10, 30, 100, 300), (10, 30, 100, 300, 1000, 2000))
    rows: list[dict[str, Any]] = []
    for kind in _KINDS:
        before: list[dict[str, Any]] = []
        for size in sizes:
            before = _measure(settings, clock, kind, size, before)
            rows += before
    notes = [
        f"Random Jacobians (n, {_VALUES}), float32; each problem has a solution. 'labels' has n half-spaces, 'classes' "
        "n - 1, 'half rank' a Jacobian of rank n / 2. Seconds are of one problem, from Jacobian to perturbation.",
        "Residual: the largest |min(slack, move)| over the half-spaces (0 at the optimum; both are lengths), over "
        "the largest distance to a single plane; worked out alike for all from the multipliers, in float64. Excess: "
        "the norm over the least that any solver found, less 1, at the worst problem.",
        "scipy: its non-negative least squares on Lawson and Hanson's least-distance form, after a QR. clarabel: the "
        "dual.",
    ]
    return Answer("solver", "The solver alone", pd.DataFrame(rows), _draw, notes + clock.left_out)


def _affordable(
    clock: Clock, kind: str, size: int, runs: int, before: Sequence[dict[str, Any]]
) -> dict[str, Callable[..., Any]]:
    """The solvers for which there is time, by what a problem took at the size before, growing as a cube."""
    solvers: dict[str, Callable[..., Any]] = {OURS: _together, "wolfe, alone": _alone, "scipy": _scipy}
    if find_spec("clarabel") is not None:
        solvers["clarabel"] = _clarabel
    known = {row["solver"]: row["median"] * (size / row["n"]) ** 3 for row in before}
    gone = set(solvers) - set(known) if before else set()
    return {
        name: run
        for name, run in solvers.items()
        if clock.allows(f"{name}, {kind}, n = {size}", float("inf") if name in gone else runs * known.get(name, 0.0))
    }


def make(kind: str, size: int, count: int, seed: int) -> Random:
    """Random problems of a kind.

    Args:
        kind: "labels", "labels, half rank" or "classes".
        size: n.
        count: B.
        seed: of the draws.
    """
    generator = torch_generator(seed, "solver", kind, str(size))
    rank = max(1, size // 2) if kind.endswith("half rank") else size
    draw = partial(torch.randn, generator=generator)
    if rank < size:
        jacobian = draw(count, size, rank) @ draw(count, rank, _VALUES) / rank**0.5
    else:
        jacobian = draw(count, size, _VALUES)
    logits = draw(count, size)
    encoding: Encoding = OneHot(size) if kind == "classes" else MultiLabel(size)
    if kind == "classes":
        target = (encoding.decide(logits) + 1) % size
    else:
        # Some perturbation reaches the target: the one that decides what the target is.
        target = encoding.decide(logits + (jacobian @ draw(count, _VALUES, 1))[:, :, 0] / _VALUES**0.5)
    region = encoding.region(target)
    sides = region.dense(logits.double()).numpy()
    demand = region.violations(logits.double()).numpy()
    flat = jacobian.double().numpy()
    return Random(jacobian, logits, region, [(sides[i] @ flat[i], demand[i]) for i in range(count)])


def _measure(
    settings: Settings, clock: Clock, kind: str, size: int, before: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    count = max(1, min(settings.pick(8, 16), 1600 // size))
    rounds = 5 if size <= 300 else 2
    solvers = _affordable(clock, kind, size, count * (rounds + 1), before)
    if not solvers:
        return []
    problem = make(kind, size, count, settings.seed)
    weights = {name: run(problem) for name, run in solvers.items()}
    contestants = {name: _timed(run, problem, count) for name, run in solvers.items()}
    measured = interleaved(contestants, rounds, warm=[])
    certificates = {
        name: [check(*one) for one in zip(problem.systems, found, strict=True)] for name, found in weights.items()
    }
    norms = [[norm for _, norm in found] for found in certificates.values()]
    least = [min(values) for values in zip(*norms, strict=True)]
    rows = []
    for name, values in measured.items():
        own, times = spread(values), ratios(values, measured[OURS]) if OURS in measured else spread([])
        excess = [
            norm / best - 1 if best > 0 else 0.0 for (_, norm), best in zip(certificates[name], least, strict=True)
        ]
        rows.append(
            {
                "kind": kind, "n": size, "solver": name, "problems": count, "rounds": len(values),
                "median": own.median, "low": own.low, "high": own.high,
                "slower_than_ours": times.median, "slower_low": times.low, "slower_high": times.high,
                "worst_residual": max(residual for residual, _ in certificates[name]), "worst_excess": max(excess),
            }
        )  # fmt: skip
    return rows


def _timed(run: Callable[[Random], Any], problem: Random, count: int) -> Callable[[], float]:
    return lambda: seconds(lambda: run(problem)) / count


def check(system: tuple[Matrix, Matrix], weights: Matrix) -> tuple[float, float]:
    """The residual and the norm of d = -A' w, for `min ||d||, A d <= -b`.

    Args:
        system: A (k, values) and b (k,).
        weights: w (k,).

    Returns:
        The largest |min(slack, move)| over the half-spaces, over the largest distance to a single plane; a half-space's
        slack is its distance to -b - A d, its move w times its row's norm, both in units of d. And ||d||.
    """
    rows, demand = system
    norms = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    step = -(weights @ rows)
    slack = -(rows @ step + demand) / norms
    demands = demand / norms
    # Where every half-space holds already there is nothing to walk: then the farthest plane is the unit.
    unit = float(demands.max() if demands.max() > 0 else np.abs(demands).max())
    return float(np.abs(np.minimum(slack, weights * norms)).max()) / max(unit, 1e-300), float(np.linalg.norm(step))


def _together(problem: Random) -> list[Matrix]:
    solution = least_norm(problem.jacobian, problem.logits, problem.region)
    return list(solution.multipliers.numpy())


def _alone(problem: Random) -> list[Matrix]:
    found = []
    for i in range(len(problem.logits)):
        one = torch.tensor([i])
        solution = least_norm(problem.jacobian[one], problem.logits[one], problem.region.select(one))
        found.append(solution.multipliers[0].numpy())
    return found


def _scipy(problem: Random) -> list[Matrix]:
    """Least distance: with E = [A'; b'] and f = (0, ..., 0, 1), w = u / (1 - b' u) for min ||E u - f||, u >= 0."""
    found = []
    for rows, demand in problem.systems:
        triangle = qr(rows.T, mode="r", check_finite=False)[0][: len(demand)]
        stacked = np.vstack([triangle, demand])
        solution, _ = nnls(stacked, np.append(np.zeros(len(triangle)), 1.0), maxiter=30 * len(demand))
        found.append(solution / max(1 - float(demand @ solution), 1e-300))
    return found


def _clarabel(problem: Random) -> list[Matrix]:
    found = []
    for rows, demand in problem.systems:
        gram = rows @ rows.T
        scale, unit = max(float(np.diag(gram).max()), 1e-300), max(float(np.abs(demand).max()), 1e-300)
        found.append(interior_point(gram / scale, demand / unit) * unit / scale)
    return found


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    """Time and residual against n, a line a solver, a column a kind."""
    kinds = list(dict.fromkeys(table["kind"]))
    axes = figure.subplots(2, len(kinds), sharex=True, squeeze=False)
    names: Sequence[str] = list(dict.fromkeys(table["solver"]))
    for column, kind in enumerate(kinds):
        for number, name in enumerate(names):
            part = table[(table["kind"] == kind) & (table["solver"] == name)].sort_values("n")
            style: dict[str, Any] = {
                "color": COLOURS[number],
                "marker": MARKERS[number],
                "markersize": 4,
                "label": name,
            }
            error = [part["median"] - part["low"], part["high"] - part["median"]]
            axes[0][column].errorbar(part["n"], part["median"], yerr=error, capsize=2, **style)
            axes[1][column].plot(part["n"], part["worst_residual"].clip(1e-17, _UNSOLVED), **style)
        axes[0][column].set(xscale="log", yscale="log", title=kind)
        axes[1][column].set(xscale="log", yscale="log", xlabel="outputs n")
    axes[0][0].set_ylabel("seconds a problem")
    axes[1][0].set_ylabel(f"worst residual ({_UNSOLVED:g}: or more)")
    axes[0][0].legend(fontsize=7)
