"""Multi-class-optimised examples: strong ones that hide behind a second class.

Ozbulak, De Neve, Van Messem: "How the Softmax Output is Misleading for Evaluating the Strength of Adversarial
Examples", NeurIPS Workshop on Security in Machine Learning 2018, Appendix B; choices of ours in `logit_ascent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from wolfe.attacks.base import require_positive
from wolfe.attacks.logit_ascent import LogitAscent, logit_of
from wolfe.attacks.problem import Problem
from wolfe.encoding import Encoding
from wolfe.seeding import numpy_generator


@dataclass(frozen=True, kw_only=True)
class MultiClassOptimised(LogitAscent):
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
        first, second = logit_of(logits, problem.target[index]), logit_of(logits, _second_classes(problem, index))
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
