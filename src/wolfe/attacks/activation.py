"""Ascents on logits that do not stop at full confidence, or that hide behind a second class.

Ozbulak, De Neve, Van Messem: "How the Softmax Output is Misleading for Evaluating the Strength of Adversarial
Examples", NeurIPS Workshop on Security in Machine Learning 2018, Appendix B.

The paper prints both updates with a minus sign and means ascent. It does not say what the gradient is taken by; with
its multipliers an ascent by pixels from 0 to 255 would not move. Here it is the normalised input u = (x - mean) / std,
to which the step is added before it is mapped back, so that an image in [0, 1] moves by the multiplier times std^2
times its own gradient. How far that leads depends on the network: on a small one the published multipliers may do
little or too much. Values stay between the steps as they are; whole grey levels are for whoever evaluates the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wolfe.attacks.base import require_positive
from wolfe.attacks.gradient_steps import GradientSteps
from wolfe.attacks.problem import Problem
from wolfe.encoding import Encoding
from wolfe.seeding import numpy_generator


class _ByNormalisedInput(Problem):
    """A problem whose gradients are taken by the normalised input, and mapped back to what they change in the image.

    Args:
        problem: the problem itself; all its books are shared.
    """

    def __init__(self, problem: Problem) -> None:
        self.__dict__ = vars(problem)

    def gradient(
        self, images: Tensor, index: Tensor, objective: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As of the problem, but std^2 times the gradient by the image: std for the gradient, std for the way back."""
        logits, values, gradient = super().gradient(images, index, objective)
        return logits, values, self.classifier.std.square().to(gradient) * gradient


@dataclass(frozen=True, kw_only=True)
class _Ascent(GradientSteps):
    """Steps up a weighted sum of logits, clipped to [0, 1]; the observer is told them before they are clipped."""

    max_iterations: int = 500
    stop_at_success: bool = False

    def serves(self, encoding: Encoding) -> bool:
        """Encodings with a logit for each class."""
        return not encoding.multi_label and not encoding.bitwise

    def _run(self, problem: Problem) -> None:
        super()._run(_ByNormalisedInput(problem))

    def _source(self, gradient: Tensor) -> Tensor:
        return -gradient

    def _moved(self, images: Tensor, source: Tensor, start: Tensor) -> Tensor:  # noqa: ARG002 (others look at it)
        return (images + source).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class OverOptimised(_Ascent):
    """u := clip(u + multiplier grad z_c) for all steps, c the target: the logit of c grows on at full confidence.

    `iterations` is the number of steps that moved the image.

    Attributes:
        multiplier: alpha, for gradients by the normalised input u.
        max_iterations: steps at most.
        stop_at_success: whether an image is done when it reaches its target; the paper goes on for all steps.
    """

    multiplier: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "multiplier")

    def _loss(self, problem: Problem, index: Tensor, logits: Tensor) -> Tensor:
        return -self.multiplier * _at(logits, problem.target[index])


@dataclass(frozen=True, kw_only=True)
class MultiClassOptimised(_Ascent):
    """u := clip(u + alpha grad z_c + beta grad z_d): two classes rise side by side, so that neither is certain.

    c is the target, d a second class (see `second_class`). At each step the less likely of both gets the larger
    multiplier; c where they are equal. The image is decided for c or for d, now one and then the other; success
    means c, as for every attack. `iterations` is the number of steps that moved the image.

    Attributes:
        multiplier: of the less likely class; the paper takes alpha and beta from [0.05, 0.1].
        smaller_multiplier: of the other one, at most as much.
        max_iterations: steps at most.
        stop_at_success: whether an image is done when it reaches c; the paper goes on for all steps.
    """

    multiplier: float = 0.1
    smaller_multiplier: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "multiplier", "smaller_multiplier")
        if self.smaller_multiplier > self.multiplier:
            raise ValueError(
                f"MultiClassOptimised: smaller_multiplier must be at most the multiplier {self.multiplier!r}, "
                f"got {self.smaller_multiplier!r}"
            )

    def serves(self, encoding: Encoding) -> bool:
        """Encodings with a logit for each of three classes or more."""
        return super().serves(encoding) and encoding.size >= 3

    def _loss(self, problem: Problem, index: Tensor, logits: Tensor) -> Tensor:
        first, second = _at(logits, problem.target[index]), _at(logits, _second_classes(problem, index))
        behind = first <= second
        larger, smaller = logits.new_tensor([self.multiplier, self.smaller_multiplier])
        alpha, beta = torch.where(behind, larger, smaller), torch.where(behind, smaller, larger)
        return -(alpha * first + beta * second)


@lru_cache(maxsize=1 << 16)
def second_class(seed: int, image_id: str, target: int, label: int, classes: int) -> int:
    """The class d of an image, drawn among all but its target and its true class, each as likely as the next.

    Args:
        seed: the study's.
        image_id: the image's name.
        target: its target class c.
        label: its true class.
        classes: how many there are, at least 3.

    Raises:
        ValueError: there are fewer classes.
    """
    if classes < 3:
        raise ValueError(f"a second class needs at least 3 classes, got {classes}")
    others = [number for number in range(classes) if number not in (target, label)]
    return others[int(numpy_generator(seed, "second class", image_id).integers(len(others)))]


def _second_classes(problem: Problem, index: Tensor) -> Tensor:
    """The classes d (b,) of some images.

    Without true labels the first decision stands for them, without names the images of a target share its draw.
    """
    context, classes = problem.context, problem.encoding.size
    labels = problem.encoding.decide(problem.start_logits) if context.labels is None else context.labels
    names = [""] * len(problem.start) if context.image_ids is None else context.image_ids
    found = [
        second_class(context.seed, names[image], int(problem.target[image]), int(labels[image]), classes)
        for image in index.tolist()
    ]
    return torch.tensor(found, device=index.device)


def _at(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit (b,) of one class (b,) of each image."""
    return logits.gather(1, classes[:, None])[:, 0]
