"""Attacks that move an image, step after step, along the gradient of a loss.

    x := D(x + s(p)),   p from the gradient of the loss by x

Subclasses give the loss, p, and what s and D make of it: the length of a step, the values that are allowed.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_positive
from wolfe.attacks.problem import Problem
from wolfe.linear.finite import all_finite


@dataclass(frozen=True, kw_only=True)
class GradientSteps(Attack):
    """Gradient steps from the original image; the last image is returned.

    `iterations` is the number of steps that moved the image. One that a step leaves where it is would be left
    there by all that follow, and is done: p is zero, too small to be felt in the working precision, or points out
    of what is allowed. The observer is told of every image once more than it moved, with p, and so sees why.

    Attributes:
        max_iterations: steps at most.
        stop_at_success: whether an image is done when it reaches its target; without, it goes on for all steps.
    """

    max_iterations: int = 250
    stop_at_success: bool = True
    refills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "max_iterations")

    @abstractmethod
    def _loss(self, problem: Problem, index: Tensor, logits: Tensor) -> Tensor:
        """The loss (b,) of logits (b, n) that is to fall."""

    @abstractmethod
    def _source(self, problem: Problem, gradient: Tensor) -> Tensor:
        """P (b, C, H, W), given the gradient of the loss."""

    @abstractmethod
    def _moved(self, images: Tensor, source: Tensor, start: Tensor) -> Tensor:
        """The images (b, C, H, W) after a step, given p and the images as they came."""

    def _run(self, problem: Problem) -> None:
        present = problem.start.clone()
        waiting = problem.unfinished()
        while len(waiting):
            index = problem.together(waiting)
            moves = self._step(problem, present, index)
            waiting = torch.cat([index[moves], waiting[len(index) :]])
        problem.keep(torch.arange(len(present), device=present.device), present)

    def _step(self, problem: Problem, present: Tensor, index: Tensor) -> Tensor:
        """Moves images of `present` (B, C, H, W) by a step; returns which (b,) of them have moved."""
        images, steps = present[index], problem.iterations[index]
        logits, _, gradient = problem.gradient(images, index, partial(self._loss, problem, index))
        source = self._source(problem, gradient)
        problem.observe(steps, index, images, logits, gradient=source)
        reached = problem.reached(logits, index)
        new = reached & (problem.first_success[index] == 0)
        problem.first_success[index[new]] = steps[new]
        moves = problem.continuing(index, logits.isfinite().all(dim=1) & all_finite(gradient))
        moves &= steps < self.max_iterations
        if self.stop_at_success:
            moves &= ~reached
        moved = self._moved(images, source, problem.start[index])
        moves &= (moved != images).flatten(1).any(dim=1)
        present[index[moves]] = moved[moves]
        problem.iterations[index[moves]] += 1
        return moves
