"""JMA: the Jacobian-induced Mahalanobis-distance attack, Algorithm 1 of its paper.

Tondi, Guo, Pancino, Barni: "JMA: a General Algorithm to Craft Nearly Optimal Targeted Adversarial
Examples". Section numbers below are that paper's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_at_least_zero, require_choice, require_positive
from wolfe.attacks.problem import Problem
from wolfe.classifier import Classifier, ready_for_attack
from wolfe.encoding import Encoding
from wolfe.linear import LeastNormSolution, least_norm
from wolfe.linear.products import all_finite
from wolfe.linear.rank import rank_and_ratio

# In units of the spacing of numbers of the logits' type: what sums over a network's layers may differ by.
_ROUNDING = 64


@dataclass(frozen=True, kw_only=True)
class JMA(Attack):
    """Steps of fixed length along the least-norm perturbation into the linearised target region.

    Every iteration solves the linearised problem exactly. If the full solution reaches the target, a bisection
    between the present image and the solution shortens it; otherwise the image moves by `step_size` along it.
    `iterations` counts as the paper does: (iteration of success - 1) + search_steps.

    Where the paper and its released code differ, the paper holds and the code's way is an option.

    Attributes:
        step_size: epsilon, L2 length of a step, images in [0, 1].
        max_iterations: n_it,max, linearised problems at most.
        search_steps: bisections at the end (6 in the paper; the released one-hot and ECOC code makes 7).
        margin: how far inside the linearised region to aim, in logits; 0 in the paper.
        clip: keep images in [0, 1] (the paper); the released one-hot and ECOC code does not.
        search: "paper" keeps the nearest bisected image that reaches the target; "inert" keeps the full step, as
            the released multi-label code ends up doing.
        search_from: where the bisection begins: "present" is the image before the last step (Algorithm 1 and the
            released code), "original" the image as it came, as the prose above Algorithm 1 says.
        keep: "adversarial", or "highest_psnr" as in the released one-hot and ECOC code: the bisected image nearest
            to the original, whether or not it reaches the target. It usually does not, and then counts as a
            failure here, where success is judged on the returned image; `first_success` tells what was reached.
        judge: what decides on the way whether an image is at its target: "outputs" is the encoding's own decision;
            "logits" the codeword with the largest correlation to the logits before tanh, as in the released ECOC
            code. Other encodings decide alike by both. The verdict is always the encoding's.
        full_rank: give an image up as infeasible once its Jacobian has lost rank, which the paper (Section VI-D)
            names as a failure; the solver here needs no full rank.
    """

    step_size: float = 0.5
    max_iterations: int = 200
    search_steps: int = 6
    margin: float = 0.0
    clip: bool = True
    search: Literal["paper", "inert"] = "paper"
    search_from: Literal["present", "original"] = "present"
    keep: Literal["adversarial", "highest_psnr"] = "adversarial"
    judge: Literal["outputs", "logits"] = "outputs"
    full_rank: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "step_size", "max_iterations")
        require_choice(self, "search", "paper", "inert")
        require_choice(self, "search_from", "present", "original")
        require_choice(self, "keep", "adversarial", "highest_psnr")
        require_choice(self, "judge", "outputs", "logits")
        require_at_least_zero(self, "search_steps", "margin")

    @property
    def keeps_range(self) -> bool:
        """Only without `clip` may images leave [0, 1]."""
        return self.clip

    def linear_step(self, classifier: Classifier, images: Tensor, targets: Tensor) -> LeastNormSolution:
        """The first-order optimal perturbation of images (B, C, H, W), and its certificate.

        Not clipped to [0, 1]. The classifier is used in evaluation mode.
        """
        targets = classifier.encoding.check_targets(targets, len(images)).to(classifier.device)
        with ready_for_attack(classifier):
            logits, jacobian = classifier.logits_and_jacobian(images.to(classifier.device))
        return self._linear_step(classifier.encoding, logits, jacobian, targets)

    def _run(self, problem: Problem) -> None:
        present = problem.start.clone()
        # The segment of each image's last move: where it began and where it led.
        origin, move = present.clone(), torch.zeros_like(present)
        found = torch.zeros(len(present), dtype=torch.bool, device=present.device)
        active = problem.unfinished()
        for iteration in range(1, self.max_iterations + 1):
            if len(active) == 0:
                break
            logits, jacobian = problem.logits_and_jacobian(present[active], active)
            problem.observe(iteration, active, present[active], logits, jacobian)
            problem.iterations[active] = iteration
            there = self._there(problem, logits, active)
            self._arrive(problem, found, active[there], iteration)
            finite = logits.isfinite().all(dim=1) & all_finite(jacobian)
            going = problem.continuing(active, finite) & ~there
            if self.full_rank:
                full = rank_and_ratio(jacobian)[0] == jacobian.shape[1]
                problem.end(active[going & ~full], "infeasible")
                going &= full
            active, logits, jacobian = active[going], logits[going], jacobian[going]
            if len(active) == 0:
                break
            step = self._linear_step(problem.encoding, logits, jacobian, problem.target[active])
            length = step.perturbation.flatten(1).norm(dim=1)
            problem.end(active[step.infeasible], "infeasible")
            usable = ~step.infeasible & (length > 0)
            active, delta, length = active[usable], step.perturbation[usable], length[usable]
            if len(active) == 0:
                continue
            origin[active], move[active] = present[active], delta
            there = self._there(problem, problem.logits(self._bounded(present[active] + delta), active), active)
            # Those that are done pay for this step too.
            problem.tick(active)
            self._arrive(problem, found, active[there], iteration)
            active, delta, length = active[~there], delta[~there], length[~there]
            move[active] = self.step_size * delta / length[:, None, None, None]
            present[active] = self._bounded(origin[active] + move[active])
        self._judge_last_step(problem, present, found, active)
        problem.keep(torch.arange(len(present), device=present.device), present)
        self._shorten(problem, found.nonzero()[:, 0], origin, move)

    def _judge_last_step(self, problem: Problem, present: Tensor, found: Tensor, active: Tensor) -> None:
        """The last partial step may have arrived: that is seen where the next iteration would begin."""
        if len(active):
            there = self._there(problem, problem.logits(present[active], active), active)
            self._arrive(problem, found, active[there], self.max_iterations + 1)

    def _there(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        """Whether (b,) logits count as at their target on the way."""
        if self.judge == "outputs":
            return problem.reached(logits, index)
        return problem.region(index).violations(logits).amax(dim=1) < 0

    def _bounded(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1) if self.clip else images

    def _arrive(self, problem: Problem, found: Tensor, index: Tensor, iteration: int) -> None:
        found[index] = True
        problem.first_success[index] = iteration
        problem.iterations[index] = iteration - 1 + self.search_steps

    def _linear_step(self, encoding: Encoding, logits: Tensor, jacobian: Tensor, target: Tensor) -> LeastNormSolution:
        """The least-norm step in the logits, or in the outputs where the logits are in the region already.

        For ECOC the region of the logits is not the decision, which is taken after tanh: an image may be inside
        without deciding for the target, and its step in the logits would be zero.
        """
        region = encoding.region(target)
        step = least_norm(jacobian, logits, region, self._aim(logits))
        stalled = (~step.infeasible & (step.multipliers.amax(dim=1) <= 0)).nonzero()[:, 0]
        if len(stalled):
            sloped = jacobian[stalled] * encoding.output_slopes(logits[stalled])[:, :, None, None, None]
            outputs = encoding.outputs(logits[stalled])
            other = least_norm(sloped, outputs, region.select(stalled), self._aim(outputs))
            for part in fields(step):
                getattr(step, part.name)[stalled] = getattr(other, part.name)
        return step

    def _aim(self, values: Tensor) -> Tensor:
        """The margin (b, 1) of each image: the attack's, and a rounding error's worth.

        Without the latter the linear optimum lies exactly on the boundary, and where a network is linear nearby the
        order of additions in a forward pass would decide about success.
        """
        rounding = _ROUNDING * torch.finfo(values.dtype).eps * values.abs().amax(dim=1, keepdim=True)
        return self.margin + rounding

    def _shorten(self, problem: Problem, index: Tensor, origin: Tensor, move: Tensor) -> None:
        """The bisection of the last move, or of the way from the original (Algorithm 1, lines 8 to 16)."""
        if len(index) == 0:
            return
        origin, move = origin[index], move[index]
        best = self._bounded(origin + move)
        if self.search_from == "original":
            origin = problem.start[index]
            move = best - origin
        low = torch.zeros(len(index), dtype=origin.dtype, device=origin.device)
        high = torch.ones_like(low)
        nearest = torch.full_like(low, torch.inf)
        for _ in range(self.search_steps if self.search == "paper" else 0):
            middle = (low + high) / 2
            tried = self._bounded(origin + middle[:, None, None, None] * move)
            there = self._there(problem, problem.logits(tried, index), index)
            high, low = torch.where(there, middle, high), torch.where(there, low, middle)
            if self.keep == "highest_psnr":
                distance = (tried - problem.start[index]).flatten(1).norm(dim=1)
                there = distance < nearest
                nearest = torch.where(there, distance, nearest)
            best[there] = tried[there]
        problem.keep(index, best)
        problem.tick(index)
