"""LOTS: layerwise origin-target synthesis, here on the logits.

Rozsa, Guenther, Boult: "LOTS about Attacking Deep Features", IJCB 2017; in the form of the JMA paper,
Section IV-B1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_positive
from wolfe.attacks.problem import Problem
from wolfe.linear.finite import all_finite


@dataclass(frozen=True, kw_only=True)
class LOTS(Attack):
    """Gradient steps towards the average logits of images of the target.

    Minimises 1/2 ||z(x) - reference||^2 by x := x - grey_levels/255 * g / max|g|, and stops when the target is
    reached; `iterations` is the number of steps made.

    Needs `context.reference_logits` (B, n); images whose row is NaN (no image of that target is known) end as
    infeasible.

    Attributes:
        max_iterations: steps at most.
        grey_levels: the largest change of a value in a step, in units of 1/255.
        round: round images to whole grey levels before each step, as the released code does.
        samples: how many images to average; None for 50 where labels are classes and 20 where they are vectors
            (JMA paper). Read by whoever prepares the reference logits.
        as_released: as the released code does where labels are vectors: all steps are made, the last image decides
            about success, and the one returned is then the nearest to the original of all that were at the target
            (`iterations` is its step). Where labels are classes, the released code stops as this one does.
    """

    max_iterations: int = 2000
    grey_levels: float = 1.0
    round: bool = True
    samples: int | None = None
    as_released: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "max_iterations", "grey_levels")
        if self.samples is not None:
            require_positive(self, "samples")

    @property
    def requires(self) -> tuple[str, ...]:
        """The reference logits."""
        return ("reference_logits",)

    def _run(self, problem: Problem) -> None:
        reference = problem.context.reference_logits
        if reference is None or reference.shape != (len(problem.start), problem.encoding.size):
            raise ValueError(
                f"context.reference_logits must have the shape ({len(problem.start)}, {problem.encoding.size}), "
                f"got {None if reference is None else tuple(reference.shape)}"
            )
        reference = reference.to(problem.start)
        present = problem.start.clone()
        unknown = reference.isnan().any(dim=1)
        problem.end(unknown.nonzero()[:, 0], "infeasible")
        active = problem.unfinished()
        goes_on = self.as_released and problem.encoding.multi_label
        nearest = _Nearest(problem)
        # One evaluation more than steps: it judges the last step.
        for iteration in range(self.max_iterations + 1):
            if len(active) == 0:
                break
            logits, _, gradient = problem.gradient(present[active], active, partial(_half_square, reference[active]))
            problem.observe(iteration, active, present[active], logits)
            there = problem.reached(logits, active)
            problem.iterations[active] = iteration
            nearest.enter(active, present[active], there, iteration)
            going = problem.continuing(active, all_finite(gradient))
            if not goes_on:
                going &= ~there
            largest = gradient.flatten(1).abs().amax(dim=1)
            going &= largest > 0
            if iteration == self.max_iterations:
                break
            active, gradient, largest = active[going], gradient[going], largest[going]
            present[active] = self._moved(present[active], gradient / largest[:, None, None, None])
        problem.keep(torch.arange(len(present), device=present.device), present)
        nearest.hand_over()

    def _moved(self, images: Tensor, direction: Tensor) -> Tensor:
        levels = 255 * images
        if self.round:
            levels = torch.round(levels)
        return ((levels - self.grey_levels * direction) / 255).clamp(0, 1)


class _Nearest:
    """The image nearest to the original of all that were at the target, and whether the last one is."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.images = problem.start.clone()
        self.distance = torch.full((len(problem.start),), torch.inf, device=problem.start.device)
        self.step = torch.zeros(len(problem.start), dtype=torch.long, device=problem.start.device)
        self.last = torch.zeros(len(problem.start), dtype=torch.bool, device=problem.start.device)

    def enter(self, index: Tensor, images: Tensor, there: Tensor, iteration: int) -> None:
        """Notes a step's images (b, C, H, W) and which (b,) of them are at their targets."""
        problem = self.problem
        problem.first_success[index[there & (problem.first_success[index] == 0)]] = iteration
        distance = (images - problem.start[index]).flatten(1).norm(dim=1).to(self.distance)
        better = there & (distance < self.distance[index])
        place = index[better]
        self.images[place], self.distance[place], self.step[place] = images[better], distance[better], iteration
        self.last[index] = there

    def hand_over(self) -> None:
        """Makes the nearest images the ones to return, where the last is at the target."""
        index = self.last.nonzero()[:, 0]
        self.problem.keep(index, self.images[index])
        self.problem.iterations[index] = self.step[index]


def _half_square(reference: Tensor, logits: Tensor) -> Tensor:
    """The energy (b,) between logits and their reference."""
    return (logits - reference).square().sum(dim=1) / 2
