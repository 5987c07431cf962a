"""The box-constrained L-BFGS attack.

    minimise c ||x - x0||^2 + J(x)   over images x in [0, 1]

Szegedy, Zaremba, Sutskever, Bruna, Erhan, Goodfellow, Fergus: "Intriguing Properties of Neural Networks", ICLR 2014,
Section 4.1. The paper looks for c by a line search; how far and how long are choices made here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from torch import Tensor

from wolfe.attacks.base import Attack, require_positive
from wolfe.attacks.conversation import Ask, Conversation
from wolfe.attacks.problem import Problem
from wolfe.linear.finite import all_finite

_Point = NDArray[np.float64]
# The relative gain at which SciPy ends a run. Smaller gains than rounding makes would only feed the line search.
_TOLERANCE = 2.2e-9


@dataclass(frozen=True, kw_only=True)
class LBFGS(Attack):
    """SciPy's L-BFGS-B from the original image, and for every image a search for the largest c that succeeds.

    J is the encoding's loss for the target (cross-entropy for classes). A c succeeds where the best point of its
    run is at the target. From the initial c it is multiplied by ten while runs succeed, or divided by ten until
    one does; then the geometric mean of the two is tried. The nearest of all evaluated images that reach the
    target is returned, or the last where none does.

    Each image has a solver of its own, in double precision; the network is asked for all of them in one pass. One
    evaluation is one forward pass and one vector-Jacobian product. `iterations` is the evaluation, within its c's
    run, at which the returned image was found. A solver keeps about 25 doubles a pixel value.

    Attributes:
        initial_constant: c of the first run.
        search_steps: runs, each with another c.
        max_iterations: L-BFGS steps of a run; most take one evaluation.
    """

    initial_constant: float = 1e-2
    search_steps: int = 10
    max_iterations: int = 100
    refills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "initial_constant", "search_steps", "max_iterations")

    def _run(self, problem: Problem) -> None:
        nearest = _Nearest(problem)
        tolerance = max(_TOLERANCE, 10 * torch.finfo(problem.start.dtype).eps)
        solvers: dict[int, Conversation] = {}
        waiting = problem.unfinished()
        try:
            while len(waiting):
                index = problem.together(waiting)
                for image in set(index.tolist()) - set(solvers):
                    solvers[image] = Conversation(partial(self._search, _point(problem.start[image]), tolerance))
                asked = {image: solvers[image].question() for image in index.tolist()}
                index = index[torch.tensor([asked[image] is not None for image in index.tolist()], device=index.device)]
                going = self._answer(problem, nearest, solvers, index, [asked[image] for image in index.tolist()])
                waiting = torch.cat([index[going], waiting[len(asked) :]])
        finally:
            for solver in solvers.values():
                solver.end()

    def _answer(
        self,
        problem: Problem,
        nearest: _Nearest,
        solvers: dict[int, Conversation],
        index: Tensor,
        asked: list[tuple[int, _Point]],
    ) -> Tensor:
        """Evaluates one point of every image that asks; returns which (b,) of them go on."""
        if len(index) == 0:
            return torch.zeros_like(index, dtype=torch.bool)
        numbers = torch.tensor([number for number, _ in asked], device=index.device)
        points = torch.from_numpy(np.stack([point for _, point in asked]))
        images = points.to(problem.start).view(-1, *problem.start.shape[1:])
        logits, losses, gradients = problem.gradient(images, index, partial(_loss, problem, index))
        problem.observe(numbers, index, images, logits, gradient=-gradients)
        reached = problem.reached(logits, index)
        nearest.enter(index, images, reached, numbers)
        going = problem.continuing(index, logits.isfinite().all(dim=1) & all_finite(gradients))
        slopes = gradients.flatten(1).double().cpu().numpy()
        told = zip(index.tolist(), going.tolist(), losses.tolist(), slopes, reached.tolist(), strict=True)
        for image, goes_on, loss, slope, arrived in told:
            if goes_on:
                solvers[image].answer((loss, slope, arrived))
            else:
                solvers[image].end()
        return going

    def _search(self, start: _Point, tolerance: float, ask: Ask) -> None:
        """All runs for an image, which starts as the point (m,)."""
        options = {"maxiter": self.max_iterations, "ftol": tolerance}
        constant, succeeds, fails = self.initial_constant, 0.0, math.inf
        for _ in range(self.search_steps):
            if _minimise(start, constant, options, ask):
                succeeds = constant
            else:
                fails = constant
            if succeeds == 0:
                constant /= 10
            elif math.isinf(fails):
                constant *= 10
            else:
                constant = math.sqrt(succeeds * fails)


def _minimise(start: _Point, constant: float, options: dict[str, float], ask: Ask) -> bool:
    """A run of L-BFGS-B; returns whether its best point is at the target.

    The objective is divided by 2c: L-BFGS then begins with the distance's own curvature.
    """
    least, arrived, evaluations = math.inf, False, 0

    def objective(point: _Point) -> tuple[float, _Point]:
        nonlocal least, arrived, evaluations
        evaluations += 1
        loss, slope, reached = ask((evaluations, point))
        shift = point - start
        value = float(shift @ shift + loss / constant) / 2
        if value < least:
            least, arrived = value, reached
        return value, shift + slope / (2 * constant)

    bounds = Bounds(np.zeros_like(start), np.ones_like(start))
    minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return arrived


class _Nearest:
    """The nearest image at the target so far, of each problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.distance = torch.full((len(problem.start),), torch.inf, dtype=torch.float64, device=problem.start.device)

    def enter(self, index: Tensor, images: Tensor, reached: Tensor, numbers: Tensor) -> None:
        """Keeps images (b, C, H, W) that are at the target and nearer, and any while there is none at the target."""
        problem = self.problem
        new = reached & (problem.first_success[index] == 0)
        problem.first_success[index[new]] = numbers[new]
        distance = (images - problem.start[index]).flatten(1).double().norm(dim=1)
        known = self.distance[index]
        better = torch.where(reached, distance < known, known.isinf())
        self.distance[index[better & reached]] = distance[better & reached]
        problem.keep(index[better], images[better])
        problem.iterations[index[better]] = numbers[better]


def _loss(problem: Problem, index: Tensor, logits: Tensor) -> Tensor:
    return problem.encoding.loss(logits, problem.target[index])


def _point(image: Tensor) -> _Point:
    """An image (C, H, W) as SciPy has it."""
    values: _Point = image.flatten().double().cpu().numpy()
    return values
