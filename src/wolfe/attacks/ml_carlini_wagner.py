"""ML-C&W: the attack of Carlini and Wagner for multi-label classifiers.

Song, Jin, Huang, Hu: "Multi-label Adversarial Perturbations", IEEE ICDM 2018; in the form of the JMA
paper, Section IV-B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wolfe.attacks.base import require_choice
from wolfe.attacks.penalty import PenaltyAttack
from wolfe.attacks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class MLCarliniWagner(PenaltyAttack):
    """Penalty: sum over bits of max(0, confidence - s_i z_i), s the wanted signs.

    On a codebook the signs are the target's codeword. Parameters as in
    :class:`~wolfe.attacks.penalty.PenaltyAttack`.

    Attributes:
        inert_constant: the constant has no effect (1 in every run), as in the released code.
        keep: "nearest" returns the nearest image at the target, "first", as the released code does, the first one.
        clock: when the time limit is looked at: after "iterations", or, as in the released code, between "runs".
    """

    learning_rate: float = 1e-2
    inert_constant: bool = False
    keep: Literal["nearest", "first"] = "nearest"
    clock: Literal["iterations", "runs"] = "iterations"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "keep", "nearest", "first")
        require_choice(self, "clock", "iterations", "runs")

    def _penalty(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        violations = problem.bit_region(index).violations(logits)
        return (self.confidence + violations).clamp(min=0).sum(dim=1)

    def _weight(self, constant: Tensor) -> Tensor:
        return torch.ones_like(constant) if self.inert_constant else constant

    @property
    def keeps_first(self) -> bool:
        """The first image at the target is returned, not the nearest."""
        return self.keep == "first"

    @property
    def watches_clock(self) -> bool:
        """Whether the time limit can end a run, not only the search between runs."""
        return self.clock == "iterations"
