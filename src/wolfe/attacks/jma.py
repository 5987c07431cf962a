"""JMA: the Jacobian-induced Mahalanobis-distance attack, Algorithm 1 of its paper.

Tondi, Guo, Pancino, Barni: "JMA: a General Algorithm to Craft Nearly Optimal Targeted Adversarial
Examples". Section numbers below are that paper's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, checked_images, require_at_least_zero, require_choice, require_positive
from wolfe.attacks.linear_step import LinearSteps, Solver
from wolfe.attacks.problem import Problem
from wolfe.classifier import Classifier, ready_for_attack
from wolfe.linear import LeastNormSolution, Linearisation
from wolfe.linear.finite import all_finite
from wolfe.linear.rank import rank_and_ratio


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
        solver: how a linearised problem is solved, to the same solution: "dense" works out the whole Jacobian,
            "lazy" only the rows of constraints that matter, and "auto" takes the one that should take less time, by
            the numbers of outputs and of violated constraints. `full_rank` and an observer need the Jacobian:
            with these it is dense.
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
    solver: Solver = "auto"
    refills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "step_size", "max_iterations")
        require_choice(self, "search", "paper", "inert")
        require_choice(self, "search_from", "present", "original")
        require_choice(self, "keep", "adversarial", "highest_psnr")
        require_choice(self, "judge", "outputs", "logits")
        require_choice(self, "solver", "auto", "dense", "lazy")
        require_at_least_zero(self, "search_steps", "margin")

    @property
    def keeps_range(self) -> bool:
        """Only without `clip` may images leave [0, 1]."""
        return self.clip

    def linear_step(self, classifier: Classifier, images: Tensor, targets: Tensor) -> LeastNormSolution:
        """The first-order optimal perturbation of images (B, C, H, W), and its certificate.

        Not clipped to [0, 1]. The classifier is used in evaluation mode.

        Raises:
            TypeError: `images` is no float tensor, or not of the classifier's type.
            ValueError: no targets, images or targets of a wrong shape or range, or NaN in the images.
        """
        images = checked_images(images, classifier)
        if targets is None:
            raise ValueError("JMA is a targeted attack: give targets")
        targets = classifier.encoding.check_targets(targets, len(images)).to(classifier.device)
        with ready_for_attack(classifier):
            steps = LinearSteps(classifier, targets, self.margin, self.solver)
            local, everything = classifier.linearise(images), torch.arange(len(images), device=classifier.device)
            if steps.wants_jacobian(local.values, everything):
                return steps.by_jacobian(local.values, local.jacobian(), everything)
            return steps.by_rows(local, images, everything).solution

    def _run(self, problem: Problem) -> None:
        present = problem.start.clone()
        # The segment of each image's last move: where it began and where it led.
        origin, move = present.clone(), torch.zeros_like(present)
        found = torch.zeros(len(present), dtype=torch.bool, device=present.device)
        steps = LinearSteps(problem.classifier, problem.target, self.margin, self._solver_for(problem))
        waiting = problem.unfinished()
        out_of_steps = waiting[:0]
        while len(active := problem.together(waiting)):
            rest = waiting[len(active) :]
            problem.iterations[active] += 1
            active, delta = self._solve(problem, steps, present, found, active)
            origin[active], move[active] = present[active], delta
            there = self._there(problem, problem.logits(self._bounded(present[active] + delta), active), active)
            # Those that are done pay for this step too.
            problem.tick(active)
            self._arrive(problem, found, active[there])
            active, delta = active[~there], delta[~there]
            move[active] = self.step_size * delta / delta.flatten(1).norm(dim=1)[:, None, None, None]
            present[active] = self._bounded(origin[active] + move[active])
            last = problem.iterations[active] >= self.max_iterations
            out_of_steps = torch.cat([out_of_steps, active[last]])
            waiting = torch.cat([active[~last], rest])
        self._judge_last_step(problem, present, found, out_of_steps)
        problem.keep(torch.arange(len(present), device=present.device), present)
        self._shorten(problem, found.nonzero()[:, 0], origin, move)

    def _solver_for(self, problem: Problem) -> Solver:
        return "dense" if self.full_rank or problem.context.observer is not None else self.solver

    def _solve(
        self, problem: Problem, steps: LinearSteps, present: Tensor, found: Tensor, active: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The images (b,) that go on from the linearised problems of the active ones, and their solutions."""
        local = problem.linearise(present[active], active)
        logits, jacobian = local.values, None
        if steps.wants_jacobian(logits, active):
            jacobian = problem.jacobian(local, active)
        problem.observe(problem.iterations[active], active, present[active], logits, jacobian)
        there = self._there(problem, logits, active)
        self._arrive(problem, found, active[there])
        finite = logits.isfinite().all(dim=1)
        if jacobian is not None:
            finite &= all_finite(jacobian)
        going = problem.continuing(active, finite) & ~there
        if jacobian is not None and self.full_rank:
            full = rank_and_ratio(jacobian)[0] == jacobian.shape[1]
            problem.end(active[going & ~full], "infeasible")
            going &= full
        active = active[going]
        if len(active) == 0:
            return active, present[active]
        if jacobian is not None:
            step = steps.by_jacobian(logits[going], jacobian[going], active)
        else:
            step = self._solve_lazily(problem, steps, local if bool(going.all()) else None, present, active)
        problem.end(active[step.infeasible], "infeasible")
        usable = ~step.infeasible & (step.perturbation.flatten(1).norm(dim=1) > 0)
        return active[usable], step.perturbation[usable]

    def _solve_lazily(
        self, problem: Problem, steps: LinearSteps, local: Linearisation | None, present: Tensor, active: Tensor
    ) -> LeastNormSolution:
        """The linearised problems of the active images, around which `local` is, without their Jacobians."""
        images = present[active]
        lazy = steps.by_rows(problem.linearise(images, active) if local is None else local, images, active)
        problem.book(active, forwards=lazy.forwards, vjps=lazy.vjps, jvps=lazy.jvps)
        problem.end(active[~lazy.finite], "not_finite")
        return lazy.solution

    def _judge_last_step(self, problem: Problem, present: Tensor, found: Tensor, active: Tensor) -> None:
        """The last partial step may have arrived: that is seen where the next iteration would begin."""
        if len(active):
            there = self._there(problem, problem.logits(present[active], active), active)
            problem.iterations[active[there]] += 1
            self._arrive(problem, found, active[there])

    def _there(self, problem: Problem, logits: Tensor, index: Tensor) -> Tensor:
        """Whether (b,) logits count as at their target on the way."""
        if self.judge == "outputs":
            return problem.reached(logits, index)
        return problem.region(index).violations(logits).amax(dim=1) < 0

    def _bounded(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1) if self.clip else images

    def _arrive(self, problem: Problem, found: Tensor, index: Tensor) -> None:
        found[index] = True
        problem.first_success[index] = problem.iterations[index]
        problem.iterations[index] += self.search_steps - 1

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
