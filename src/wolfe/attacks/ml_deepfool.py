"""ML-DeepFool: least-norm steps onto the thresholds of the labels.

Song, Jin, Huang, Hu: "Multi-label Adversarial Perturbations", IEEE ICDM 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_at_least_zero, require_choice, require_positive
from wolfe.attacks.problem import Problem
from wolfe.attacks.scores import bit_scores, clearance, steepness
from wolfe.encoding import Encoding

# A pivot of the rows' correlation matrix below this (the sine of a row's angle to those before) counts as singular.
_SINGULAR = 1e-6
_TIKHONOV = 1e-8


@dataclass(frozen=True, kw_only=True)
class MLDeepFool(Attack):
    """Linearises the scores and makes the step of least l2 norm onto the thresholds of the labels that are wrong.

    With f the scores (logistic, or tanh on a codebook, bit by bit), J_f their Jacobian and d the displacements wanted,
    a step is J_f' (J_f J_f')^-1 d, longer by `overshoot`, and the image is clipped to [0, 1]. Greedy, and sensitive
    to saturated scores. `iterations` counts steps.

    An image that a step leaves as it is ends as exhausted; where no wrong label has a gradient it is infeasible.

    Attributes:
        max_iterations: steps at most.
        overshoot: by what share a step is longer than the linear problem asks.
        keep: what happens to labels that are right: "equal" holds their scores where they are, "free" leaves them
            out of the system.
    """

    max_iterations: int = 100
    overshoot: float = 0.02
    keep: Literal["equal", "free"] = "equal"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "max_iterations")
        require_at_least_zero(self, "overshoot")
        require_choice(self, "keep", "equal", "free")

    def serves(self, encoding: Encoding) -> bool:
        """Outputs whose bits are on or off by themselves."""
        return encoding.bitwise

    def _run(self, problem: Problem) -> None:
        present = problem.start.clone()
        active = problem.unfinished()
        for iteration in range(1, self.max_iterations + 1):
            if len(active) == 0:
                break
            active, logits, jacobian = problem.begin_step(iteration, present[active], active)
            step, solved = self._steps(problem.encoding, problem.target[active], logits, jacobian)
            problem.end(active[~solved], "infeasible")
            active, step = active[solved], step[solved]
            if len(active) == 0:
                break
            problem.iterations[active] = iteration
            before = present[active]
            present[active] = (before.double() + (1 + self.overshoot) * step).clamp(0, 1).to(before)
            there = problem.reached(problem.logits(present[active], active), active)
            problem.tick(active)
            problem.first_success[active[there]] = iteration
            active = active[~there & (present[active] != before).flatten(1).any(dim=1)]
        problem.keep(torch.arange(len(present), device=present.device), present)

    def _steps(self, encoding: Encoding, target: Tensor, logits: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
        """The steps (b, C, H, W), float64, without overshoot, and whether (b,) a wrong label has a gradient."""
        scores = bit_scores(encoding, logits.double())
        slopes = steepness(encoding) * scores * (1 - scores)
        wrong = encoding.bits(logits) != encoding.target_bits(target)
        rows = slopes[:, :, None] * jacobian.flatten(2).double()
        norms = rows.norm(dim=2)
        chosen = (wrong | (self.keep == "equal")) & (norms > 0)
        # Rows of length 1: how saturated a score is does not decide whether the system is singular.
        norms = torch.where(chosen, norms, 1.0)
        unit = rows / norms[:, :, None] * chosen[:, :, None]
        # The score just inside the threshold, on the side that the target wants.
        goal = bit_scores(encoding, encoding.signs(target).to(scores) * clearance(logits.double()))
        wanted = torch.where(wrong & chosen, (goal - scores) / norms, 0.0)
        weights = _solve(unit @ unit.mT, wanted, chosen)
        step = torch.einsum("bn,bnm->bm", weights, unit).view(len(logits), *jacobian.shape[2:])
        return step, (wrong & chosen).any(dim=1)


def _solve(gram: Tensor, right: Tensor, chosen: Tensor) -> Tensor:
    """Solves `gram w = right` (b, n) on the chosen rows; with a Tikhonov term of 1e-8 of the trace where singular."""
    matrix = gram + torch.diag_embed((~chosen).to(gram))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal(dim1=1, dim2=2).amin(dim=1)
    singular = (failed != 0) | ~(pivots > _SINGULAR)
    ridge = _TIKHONOV * gram.diagonal(dim1=1, dim2=2).sum(dim=1) * singular
    factor, _ = torch.linalg.cholesky_ex(matrix + torch.diag_embed(ridge[:, None].expand_as(right)))
    return torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
