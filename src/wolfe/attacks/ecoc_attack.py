"""The attack on error-correcting output codes of Zhang, Tondi, Lv and Barni.

"Challenging the Adversarial Robustness of DNNs Based on Error-Correcting Output Codes", Security and Communication
Networks 2020; in the form of the JMA paper, Section IV-B, equation 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wolfe.attacks.base import require_positive
from wolfe.attacks.penalty import PenaltyAttack
from wolfe.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class ECOCAttack(PenaltyAttack):
    """Penalty: -min(min_i c_ti z_i, confidence): the weakest logit of the target's codeword is pushed up.

    The minimum is over the bits and the confidence alike (the printed subscript suggests otherwise). Parameters as
    in :class:`~wolfe.attacks.penalty.PenaltyAttack`.

    Attributes:
        factor: multiplies c_ti z_i; 1 as printed, 2 in the released code.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "factor")

    def _penalty(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        violations = self.factor * problem.bit_region(index).violations(logits)
        return violations.amax(dim=1).clamp(min=-self.confidence)
