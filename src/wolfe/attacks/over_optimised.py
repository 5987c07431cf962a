"""Over-optimised examples: the logit of the target grows on at full confidence.

Ozbulak, De Neve, Van Messem: "How the Softmax Output is Misleading for Evaluating the Strength of Adversarial
Examples", NeurIPS Workshop on Security in Machine Learning 2018, Appendix B; choices of ours in `logit_ascent`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wolfe.attacks.base import require_positive
from wolfe.attacks.logit_ascent import LogitAscent, logit_of
from wolfe.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class OverOptimised(LogitAscent):
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
        return -self.multiplier * logit_of(logits, problem.target[index])
