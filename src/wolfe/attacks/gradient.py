"""Targeted steps along the gradients of four losses, to compare the losses and nothing else.

Ozbulak, Gasparyan, De Neve, Van Messem: "Perturbation Analysis of Gradient-based Adversarial Attacks", Pattern
Recognition Letters 2020, equations 11 to 16. The losses stand for attacks: cross-entropy for L-BFGS, its sign for
IFGS and PGD, the logit for attacks on a single target, the M-logit for Carlini-Wagner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wolfe.attacks.base import require_at_least_zero, require_choice, require_positive
from wolfe.attacks.gradient_steps import GradientSteps
from wolfe.attacks.problem import Problem

_LOSSES = ("cross_entropy", "cross_entropy_sign", "logit", "m_logit")
_SETTINGS = ("equal_multiplier", "equal_perturbation")


@dataclass(frozen=True, kw_only=True)
class GradientAttack(GradientSteps):
    """x := clip(x + a p), where p follows one of four losses and a is one number or makes all steps equally long.

    With z the logits and c the target, one-hot:

    - cross_entropy: p = grad log softmax(z)_c;
    - cross_entropy_sign: the sign of that, with sign(0) = 0;
    - logit: p = grad z_c;
    - m_logit: p = grad (z_c - z_d), d the best of the other classes; zero once z_c - z_d >= confidence.

    All encodings are served. Cross-entropy is the encoding's own loss (the hinge for a codebook). The logit is the
    sum over bits of what each logit has on its wanted side where every logit is a bit, and the M-logit the
    margin to the nearest side of the target region; both on the logits, which no activation flattens.

    Nothing is done about a cross-entropy that fades. In single precision the slope by z_c is exactly 0 from
    z_c - z_d = 16.7 (softmax(z)_c rounds to 1, the loss to 0), those by the other logits from 104 (their softmax
    rounds to 0): in between p only pushes the others down, at full length where steps are equally long.

    `iterations` is the number of steps that moved the image.

    Attributes:
        loss: where p comes from.
        setting: "equal_multiplier" takes a = multiplier for all steps; "equal_perturbation" a = step_length / ||p||.
        multiplier: a of the first setting, for images in [0, 1].
        step_length: L2 length of a step of the second setting, before clipping; None for half a grey level a value
            (0.5/255 sqrt(CHW)). A p that is exactly zero adds nothing.
        max_iterations: steps at most.
        stop_at_success: whether an image is done when it reaches its target; without, it goes on for all steps.
        confidence: kappa of the M-logit; None for a loss that has no end.
        round: round to whole grey levels after each step; parts of a step under half a level are lost by it.
        flat_at_zero_loss: take the gradient of a cross-entropy that rounds to 0 as zero, as the paper does in
            words; the image is done there.
    """

    loss: Literal["cross_entropy", "cross_entropy_sign", "logit", "m_logit"] = "cross_entropy"
    setting: Literal["equal_multiplier", "equal_perturbation"] = "equal_perturbation"
    multiplier: float = 0.01
    step_length: float | None = None
    confidence: float | None = 20.0
    round: bool = False
    flat_at_zero_loss: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "loss", *_LOSSES)
        require_choice(self, "setting", *_SETTINGS)
        require_positive(self, "multiplier")
        if self.step_length is not None:
            require_positive(self, "step_length")
        if self.confidence is not None:
            require_at_least_zero(self, "confidence")

    def _loss(self, problem: Problem, index: Tensor, logits: Tensor) -> Tensor:
        encoding, target = problem.encoding, problem.target[index]
        if self.loss == "logit":
            weights = encoding.signs(target) if encoding.bitwise else encoding.target_bits(target)
            return -(weights.to(logits) * logits).sum(dim=1)
        if self.loss == "m_logit":
            worst = encoding.region(target).violations(logits).max(dim=1).values
            return worst if self.confidence is None else functional.relu(worst + self.confidence)
        loss = encoding.loss(logits, target)
        return torch.where(loss == 0, torch.zeros_like(loss), loss) if self.flat_at_zero_loss else loss

    def _source(self, problem: Problem, gradient: Tensor) -> Tensor:  # noqa: ARG002 (others look at it)
        return -gradient.sign() if self.loss == "cross_entropy_sign" else -gradient

    def _moved(self, images: Tensor, source: Tensor, start: Tensor) -> Tensor:  # noqa: ARG002 (others look at it)
        moved = (images + self._scaled(source)).clamp(0, 1)
        return torch.round(255 * moved) / 255 if self.round else moved

    def _scaled(self, source: Tensor) -> Tensor:
        """The step (b, C, H, W) before anything is clipped."""
        if self.setting == "equal_multiplier":
            return self.multiplier * source
        usual = 0.5 / 255 * math.sqrt(math.prod(source.shape[1:]))
        return (usual if self.step_length is None else self.step_length) * _unit(source)


def _unit(source: Tensor) -> Tensor:
    """Sources (b, C, H, W) at length 1; zeros stay.

    The squares of small values would round to zero long before the values do: the largest value is divided by first.
    """
    flat = source.flatten(1)
    largest = flat.abs().amax(dim=1, keepdim=True)
    scaled = flat / torch.where(largest > 0, largest, 1)
    return (scaled / scaled.norm(dim=1, keepdim=True).clamp(min=1)).view_as(source)
