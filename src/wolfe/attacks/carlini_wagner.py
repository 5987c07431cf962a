"""The L2 attack of Carlini and Wagner, over any target region.

Carlini, Wagner: "Towards Evaluating the Robustness of Neural Networks", IEEE SP 2017. For
error-correcting output codes the logits are replaced by the outputs' correlations with the codewords (JMA paper,
Section IV-B).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wolfe.attacks.penalty import PenaltyAttack
from wolfe.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(PenaltyAttack):
    """Penalty: the worst violation of the target region by the outputs, but not below -confidence.

    One-hot: max over i of z_i - z_t. Codebook: max over i of f.c_i - f.c_t with f = tanh(z). Multi-label: the most
    wrong label. Parameters as in :class:`~wolfe.attacks.penalty.PenaltyAttack`.
    """

    def _penalty(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        violations = problem.region(index).violations(problem.encoding.outputs(logits))
        return violations.amax(dim=1).clamp(min=-self.confidence)
