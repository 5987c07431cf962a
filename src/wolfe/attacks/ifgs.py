"""The iterative fast gradient sign attack.

Kurakin, Goodfellow, Bengio: "Adversarial Examples in the Physical World", ICLR Workshop 2017, Section 2.2 (the basic
iterative method), with a chosen target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wolfe.attacks.base import require_positive
from wolfe.attacks.gradient_steps import GradientSteps
from wolfe.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class IFGS(GradientSteps):
    """x := clip(x - grey_levels/255 sign(grad J(x))) to an l_inf ball around the original and to [0, 1].

    J is the encoding's loss for the target. `iterations` is the number of steps that moved the image.

    Attributes:
        radius: of the ball, in grey levels (1/255); the paper's go from 2 to 32.
        grey_levels: what a step changes a value by, in units of 1/255.
        max_iterations: steps; the paper makes min(radius + 4, 1.25 radius) of one level.
        stop_at_success: whether an image is done when it reaches its target; the paper makes all steps.
    """

    radius: float = 16.0
    grey_levels: float = 1.0
    max_iterations: int = 20
    stop_at_success: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "radius", "grey_levels")

    def _loss(self, problem: Problem, index: Tensor, logits: Tensor) -> Tensor:
        return problem.encoding.loss(logits, problem.target[index])

    def _source(self, problem: Problem, gradient: Tensor) -> Tensor:  # noqa: ARG002 (others look at it)
        return -gradient.sign()

    def _moved(self, images: Tensor, source: Tensor, start: Tensor) -> Tensor:
        radius = self.radius / 255
        moved = images + self.grey_levels / 255 * source
        return torch.clamp(moved, start - radius, start + radius).clamp(0, 1)
