"""MLA-LP: multi-label attacks by linear programming.

Zhou, Luo, Lin, Xu, Zhang: "Generating Multi-label Adversarial Examples by Linear Programming", IJCNN 2020; in the form
of the JMA paper, Section IV-B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_choice, require_positive
from wolfe.attacks.problem import Problem
from wolfe.attacks.scores import bit_scores, clearance, steepness
from wolfe.encoding import Encoding
from wolfe.linear import max_norm

# "auto" solves the linear programme as it stands up to this many values of an image.
_SMALL = 3072
# Scores this near 0 and 1 count as no nearer, so that losses stay finite.
_NEAREST = 1e-6
# The released code: how a threshold falls, and where it stops.
_LOWERED_BY, _LOWEST = 0.05, 0.1


@dataclass(frozen=True, kw_only=True)
class MLALP(Attack):
    """Linearises the loss of every label and makes the step of least max-norm that brings all below their thresholds.

    The loss of a label is the binary cross-entropy of its score. A step solves `min q s.t. g_i.r <= T_i - L_i,
    ||r||_inf <= q` with L_i the losses, g_i their gradients by the image and T_i the loss at the threshold, and moves
    the image by r, clipped to [0, 1]. `iterations` counts linear programmes. On a codebook the labels are the bits of
    the target's codeword and the scores (tanh(z) + 1) / 2.

    An image that a step leaves as it is ends as exhausted, one whose linear programme has no solution as infeasible.

    Attributes:
        max_iterations: linear programmes at most.
        threshold: the largest score that a label may keep for the wrong side; 0.5 is the decision's own.
        solver: "highs", the linear programme as it stands; "dual", cutting planes for large images; "auto" for
            "highs" up to 3072 values an image.
        gap: relative gap at which "dual" stops.
        falling_thresholds: the threshold of a label that has to change falls by 0.05, down to 0.1, whenever its score
            does not improve, as in the released code.
        restart_when_worse: an image goes back to the clean one when fewer labels agree with the target than before,
            as in the released code.
        keep: "last" returns the last image; "best", as the released code, the one with the most labels equal to the
            target, among these the nearest to the clean one, which counts too.
        patience: steps without a change after which an image is given up; 5 in the released code.
    """

    max_iterations: int = 100
    threshold: float = 0.5
    solver: Literal["auto", "highs", "dual"] = "auto"
    gap: float = 1e-3
    falling_thresholds: bool = False
    restart_when_worse: bool = False
    keep: Literal["last", "best"] = "last"
    patience: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "max_iterations", "threshold", "gap", "patience")
        require_choice(self, "solver", "auto", "highs", "dual")
        require_choice(self, "keep", "last", "best")
        for name, most in (("threshold", 0.5), ("gap", 0.5)):
            if getattr(self, name) > most:
                raise ValueError(f"MLALP: {name} must be <= {most}, got {getattr(self, name)!r}")

    def serves(self, encoding: Encoding) -> bool:
        """Outputs whose bits are on or off by themselves."""
        return encoding.bitwise

    def _run(self, problem: Problem) -> None:
        present = problem.start.clone()
        thresholds = torch.full_like(problem.encoding.signs(problem.target), self.threshold, dtype=torch.float64)
        memory = _Memory(problem, thresholds, self)
        active = problem.unfinished()
        for iteration in range(1, self.max_iterations + 1):
            if len(active) == 0:
                break
            active, logits, jacobian = problem.begin_step(iteration, present[active], active)
            problem.iterations[active] = iteration
            step, solved = self._steps(problem, active, logits, jacobian, thresholds[active])
            problem.end(active[~solved], "infeasible")
            active, logits, step = active[solved], logits[solved], step[solved]
            if len(active) == 0:
                break
            before, moved = present[active], (present[active] + step).clamp(0, 1)
            after = problem.logits(moved, active)
            there = problem.reached(after, active)
            problem.tick(active)
            problem.first_success[active[there]] = iteration
            present[active], going = memory.judge(active, before, moved, logits, after)
            going &= step.flatten(1).abs().amax(dim=1) > 0
            active = active[going & ~there]
        problem.keep(torch.arange(len(present), device=present.device), memory.best if self.keep == "best" else present)

    def _steps(
        self, problem: Problem, index: Tensor, logits: Tensor, jacobian: Tensor, thresholds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The perturbations (b, C, H, W) of some images and whether (b,) there is one."""
        slopes, room = self._linearised(problem.encoding, problem.target[index], logits.double(), thresholds)
        steps, solved = torch.zeros_like(problem.start[index]), torch.ones_like(index, dtype=torch.bool)
        solver = self.solver
        if solver == "auto":
            solver = "highs" if problem.start[0].numel() <= _SMALL else "dual"
        for image in range(len(index)):
            rows = slopes[image, :, None] * jacobian[image].flatten(1).double()
            solution = max_norm(rows, room[image], solver=solver, gap=self.gap)
            steps[image] = solution.perturbation.view(steps[image].shape).to(steps)
            solved[image] = not solution.infeasible
        return steps, solved

    def _linearised(
        self, encoding: Encoding, target: Tensor, logits: Tensor, thresholds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The slope of each label's loss by its logit and what is left of its threshold, T_i - L_i, both (b, n)."""
        wanted = encoding.target_bits(target).to(logits)
        score = bit_scores(encoding, logits).clamp(_NEAREST, 1 - _NEAREST)
        loss = -torch.where(wanted > 0, score, 1 - score).log()
        factor = steepness(encoding)
        # Where a threshold is, the loss falls by factor * threshold a logit.
        allowed = -(1 - thresholds).log() - factor * thresholds * clearance(logits)
        return factor * (score - wanted), allowed - loss


class _Memory:
    """What an attack remembers of its images: their thresholds, the best one so far, steps without a change.

    Args:
        problem: the attack's.
        thresholds: (B, n), lowered in place where the options say so.
        options: the attack.
    """

    def __init__(self, problem: Problem, thresholds: Tensor, options: MLALP) -> None:
        self.problem = problem
        self.thresholds = thresholds
        self.options = options
        self.wanted = problem.encoding.target_bits(problem.target)
        right = problem.encoding.bits(problem.start_logits) == self.wanted
        self.attacked = ~right
        self.best = problem.start.clone()
        self.agreed = right.sum(dim=1)
        self.distance = torch.zeros(len(self.best), dtype=self.best.dtype, device=self.best.device)
        self.unchanged = torch.zeros_like(self.agreed)

    def judge(
        self, index: Tensor, before: Tensor, moved: Tensor, logits: Tensor, after: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judges a step from images `before` (logits `logits`) to `moved` (logits `after`).

        Returns:
            The images (b, C, H, W) to go on from, and whether (b,) to go on.
        """
        encoding, wanted = self.problem.encoding, self.wanted[index]
        right, now_right = ((encoding.bits(values) == wanted).sum(dim=1) for values in (logits, after))
        self._remember(index, moved, now_right)
        if self.options.falling_thresholds:
            self._lower(index, logits, after)
        self.unchanged[index] = torch.where(_same(moved, before), self.unchanged[index] + 1, 0)
        going = self.unchanged[index] < self.options.patience
        if not self.options.restart_when_worse:
            return moved, going
        worse = now_right < right
        return torch.where(worse[:, None, None, None], self.problem.start[index], moved), going

    def _lower(self, index: Tensor, logits: Tensor, after: Tensor) -> None:
        wanted = self.wanted[index]
        missing = [(bit_scores(self.problem.encoding, values) - wanted).abs() for values in (logits, after)]
        stuck = self.attacked[index] & (missing[1] >= missing[0])
        lowered = (self.thresholds[index] - _LOWERED_BY).clamp(min=_LOWEST).minimum(self.thresholds[index])
        self.thresholds[index] = torch.where(stuck, lowered, self.thresholds[index])

    def _remember(self, index: Tensor, images: Tensor, agreed: Tensor) -> None:
        distance = (images - self.problem.start[index]).flatten(1).norm(dim=1)
        better = (agreed > self.agreed[index]) | ((agreed == self.agreed[index]) & (distance < self.distance[index]))
        chosen = index[better]
        self.best[chosen], self.agreed[chosen], self.distance[chosen] = images[better], agreed[better], distance[better]


def _same(left: Tensor, right: Tensor) -> Tensor:
    """Whether (b,) two batches of images are equal."""
    return (left == right).flatten(1).all(dim=1)
