"""Attacks that weigh a penalty on the logits against the distortion: the scheme of Carlini and Wagner.

    minimise ||x(w) - x0||^2 + c g(logits of x(w)),   x(w) = (tanh(w) + 1) / 2

by Adam, with a search over the constant c for every image (Carlini, Wagner: "Towards Evaluating the Robustness of
Neural Networks", 2017, Sections V and VI). Subclasses give g.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_at_least_zero, require_positive
from wolfe.attacks.problem import Problem
from wolfe.linear.finite import all_finite

_ADAM = (0.9, 0.999, 1e-8)


@dataclass(frozen=True, kw_only=True)
class PenaltyAttack(Attack):
    """Adam on squared distance plus c times a penalty.

    The nearest image that reaches the target, over all constants, is returned; where none does, the one with the
    most target bits. `iterations` is the step, within its constant's run, at which the returned image was found.

    Attributes:
        initial_constant: c of the first run (lambda_0 in the JMA paper).
        search_steps: runs, each with another c (n_bs in the JMA paper).
        max_iterations: Adam steps of a run.
        learning_rate: of Adam, on w.
        confidence: kappa: how far past the boundary the penalty pulls.
        abort_early: end a run where, after a tenth of its steps, the loss has not fallen by one in ten thousand.
        start_scale: w starts at arctanh((2 x0 - 1) * start_scale). Near 1 a black or white pixel hardly moves at
            first (its slope is 1 - start_scale^2); smaller values serve short budgets.
    """

    initial_constant: float = 1e-2
    search_steps: int = 9
    max_iterations: int = 1000
    learning_rate: float = 5e-3
    confidence: float = 0.0
    abort_early: bool = True
    start_scale: float = 0.999999

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "initial_constant", "search_steps", "max_iterations", "learning_rate", "start_scale")
        require_at_least_zero(self, "confidence")
        if self.start_scale >= 1:
            raise ValueError(f"{type(self).__name__}: start_scale must lie in (0, 1), got {self.start_scale}")

    @abstractmethod
    def _penalty(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        """The penalty g (b,) of logits (b, n)."""

    def _weighted(self, problem: Problem, index: Tensor, weight: Tensor, logits: Tensor) -> Tensor:
        return weight * self._penalty(problem, logits, index)

    def _weight(self, constant: Tensor) -> Tensor:
        """What g is multiplied by, given c (b,)."""
        return constant

    @property
    def keeps_first(self) -> bool:
        """Whether the first image at the target is returned instead of the nearest."""
        return False

    @property
    def watches_clock(self) -> bool:
        """Whether the time limit can end a run of Adam, and not only the search between runs."""
        return True

    def _next_constant(self, constant: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.where(upper.isinf(), constant * 10, (lower + upper) / 2)

    def _run(self, problem: Problem) -> None:
        books = _Books(problem, self.keeps_first)
        count = len(problem.start)
        constant = torch.full((count,), self.initial_constant, dtype=problem.start.dtype, device=problem.start.device)
        lower, upper = torch.zeros_like(constant), torch.full_like(constant, torch.inf)
        start = torch.atanh((2 * problem.start - 1) * self.start_scale)
        for _ in range(self.search_steps):
            index = problem.unfinished()
            if len(index) == 0:
                break
            hit = self._descend(problem, books, index, start[index], constant[index])
            upper[index] = torch.where(hit, constant[index], upper[index])
            lower[index] = torch.where(hit, lower[index], constant[index])
            constant = self._next_constant(constant, lower, upper)
            if not self.watches_clock:
                problem.continuing(index, torch.ones_like(hit))

    def _descend(self, problem: Problem, books: _Books, index: Tensor, variable: Tensor, constant: Tensor) -> Tensor:
        """One run of Adam; returns for which images (b,) any of its iterates reached the target."""
        hit = torch.zeros(len(index), dtype=torch.bool, device=index.device)
        place = torch.arange(len(index), device=index.device)
        first, second = torch.zeros_like(variable), torch.zeros_like(variable)
        previous = torch.full_like(constant, torch.inf)
        check_every = math.ceil(self.max_iterations / 10)
        for iteration in range(1, self.max_iterations + 1):
            tanh = variable.tanh()
            images = (tanh + 1) / 2
            weighted = partial(self._weighted, problem, index, self._weight(constant))
            logits, penalty, gradient = problem.gradient(images, index, weighted)
            problem.observe(iteration, index, images, logits)
            shift = images - problem.start[index]
            loss = shift.flatten(1).square().sum(dim=1) + penalty
            hit[place] |= books.enter(index, images, logits, iteration)
            slope = (gradient + 2 * shift) * (1 - tanh.square()) / 2
            variable, first, second = _adam(variable, slope, first, second, iteration, self.learning_rate)
            finite = loss.isfinite() & all_finite(slope)
            going = problem.continuing(index, finite, watch=self.watches_clock)
            if self.abort_early and iteration % check_every == 0:
                going &= loss <= 0.9999 * previous
                previous = loss
            if not bool(going.all()):
                index, place, variable, first, second = (
                    index[going], place[going], variable[going], first[going], second[going],
                )  # fmt: skip
                constant, previous = constant[going], previous[going]
            if len(index) == 0:
                break
        return hit


class _Books:
    """The best image of each problem so far."""

    def __init__(self, problem: Problem, keeps_first: bool) -> None:
        self.problem = problem
        self.keeps_first = keeps_first
        count = len(problem.start)
        self.distance = torch.full((count,), torch.inf, dtype=torch.float64, device=problem.start.device)
        self.bits = torch.full((count,), -1, dtype=torch.long, device=problem.start.device)

    def enter(self, index: Tensor, images: Tensor, logits: Tensor, iteration: int) -> Tensor:
        """Keeps what is better than before; returns which (b,) images reach the target."""
        problem = self.problem
        reached = problem.reached(logits, index)
        distance = (images - problem.start[index]).flatten(1).double().square().sum(dim=1)
        missing = self.distance[index].isinf()
        nearer = reached & (missing if self.keeps_first else distance < self.distance[index])
        self.distance[index[nearer]] = distance[nearer]
        target_bits = problem.encoding.target_bits(problem.target[index])
        equal = (problem.encoding.bits(logits) == target_bits).sum(dim=1)
        fuller = missing & ~reached & (equal > self.bits[index])
        self.bits[index[fuller]] = equal[fuller]
        better = nearer | fuller
        problem.keep(index[better], images[better])
        problem.iterations[index[better]] = iteration
        new = reached & (problem.first_success[index] == 0)
        problem.first_success[index[new]] = iteration
        return reached


def _adam(
    variable: Tensor, slope: Tensor, first: Tensor, second: Tensor, step: int, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam on every image; written out because images leave the batch one by one."""
    decay_first, decay_second, tiny = _ADAM
    first = decay_first * first + (1 - decay_first) * slope
    second = decay_second * second + (1 - decay_second) * slope.square()
    mean = first / (1 - decay_first**step)
    scale = (second / (1 - decay_second**step)).sqrt() + tiny
    return variable - rate * mean / scale, first, second
