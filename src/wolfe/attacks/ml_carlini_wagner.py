"""ML-C&W: the attack of Carlini and Wagner for multi-label classifiers.

Song, Jin, Huang, Hu: "Multi-label Adversarial Perturbations", IEEE ICDM 2018; in the form of the JMA
paper, Section IV-B.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wolfe.attacks.penalty import PenaltyAttack
from wolfe.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class MLCarliniWagner(PenaltyAttack):
    """Penalty: sum over bits of max(0, confidence - s_i z_i), s the wanted signs.

    On a codebook the signs are the target's codeword. Parameters as in
    :class:`~wolfe.attacks.penalty.PenaltyAttack`.

    Attributes:
        as_released: as the released code does: the constant has no effect (1 in every run), and the image returned
            is the first one with the most target bits, not the nearest. The time limit is looked at between runs.
    """

    learning_rate: float = 1e-2
    as_released: bool = False

    def _penalty(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        violations = problem.bit_region(index).violations(logits)
        return (self.confidence + violations).clamp(min=0).sum(dim=1)

    def _weight(self, constant: Tensor) -> Tensor:
        return torch.ones_like(constant) if self.as_released else constant

    @property
    def keeps_first(self) -> bool:
        """The first image at the target is returned, not the nearest, as the released code does."""
        return self.as_released

    @property
    def watches_clock(self) -> bool:
        """The released code looks at the clock between constants only."""
        return not self.as_released
