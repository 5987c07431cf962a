"""Refined JMA: the nearest image at the target, by two phases of linearised problems.

JMA (Tondi, Guo, Pancino, Barni, Algorithm 1) walks towards the solution of one linearised problem after the other and
stops at the first success. This attack solves the same kind of problem, with the box [0, 1] inside it, in two phases:
*reach* goes to the nearest point of the linearised target region until the target is reached; *shrink* then moves along
the target's boundary towards the original image and never leaves the target again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from wolfe.attacks.base import Attack, require_at_least_zero, require_positive
from wolfe.attacks.boundary_walk import BoundaryWalk, Look, lengths
from wolfe.attacks.local_model import LocalModel, local_model
from wolfe.attacks.problem import Problem

# Corrections go on while the merit falls by this factor; a gain below this share counts as none; two of those in a row
# end the attack; and what a success at the first try does to the length of the next step.
_FALLS, _GAIN, _STALLS, _BOLDER = 0.7, 1e-3, 2, 1 / 0.7
# A perturbation counts as shorter by more than rounding.
_SHORTER = 1 - 1e-7
# The shares of the margin that are taken back at the end, the first that holds.
_PULLS = (0.98, 0.5)


@dataclass(frozen=True, kw_only=True)
class RefinedJMA(Attack):
    """Reaches the target by full steps onto the linearised region, then shrinks along its boundary.

    A step of the second phase aims at a share of the present perturbation (plus some momentum), projects that on the
    linearised region and the box, and corrects the result by a few chords: the same gradients, new values, one forward
    pass each. It is taken if it is at the target and shorter. Every constraint's gradient costs a backward pass, so
    only those are worked out that are violated, nearly so, or were active; a small margin, in units of the
    perturbation, keeps rounding from deciding and is taken back at the end.

    What was tried and brought nothing, or less success with many labels to flip: a trust radius or a halved step in the
    first phase, an aim nearer to the original there, gradients scaled by what the last step really did (the curvature
    along it), planes kept from failed steps, and a larger margin.

    No option is a step size. `iterations` counts linearisations.

    Attributes:
        max_iterations: linearisations at most.
        margin: how far inside the linearised half-spaces to aim, as a share of the perturbation's length.
        aim: the share of the perturbation that the first step of the second phase aims at, in (0, 1).
        momentum: share of the last step that is added to the aim.
        corrections: by chords after a step, at most.
        tries: shorter and shorter steps before an image is done.
    """

    max_iterations: int = 60
    margin: float = 0.005
    aim: float = 0.8
    momentum: float = 0.8
    corrections: int = 2
    tries: int = 3
    refills: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "max_iterations", "aim", "tries")
        require_at_least_zero(self, "margin", "momentum", "corrections")
        for name in ("aim", "momentum", "margin"):
            if getattr(self, name) >= 1:
                raise ValueError(f"RefinedJMA: {name} must be below 1, got {getattr(self, name)!r}")

    def _run(self, problem: Problem) -> None:
        walk = BoundaryWalk(problem, self.aim)
        while len(active := walk.next_batch()):
            model = local_model(walk, active, self.margin)
            arrived = walk.found[model.index]
            walk.done[active] = walk.steps[active] >= self.max_iterations
            self._reach(walk, model.select(~arrived))
            self._shrink(walk, model.select(arrived))
            problem.tick(model.index)
        self._pull(walk)
        everything = torch.arange(len(problem.start), device=problem.start.device)
        problem.keep(everything, walk.images(everything, walk.perturbation))

    def _reach(self, walk: BoundaryWalk, model: LocalModel) -> None:
        """A full step onto the linearised region."""
        index = model.index
        if len(index) == 0:
            return
        present = walk.perturbation[index]
        found = model.nearest(present, present, walk.look.select(index))
        stays = (found.multipliers <= 0).all(dim=1)
        self._unstick(walk, index[stays])
        model, points, weights = model.select(~stays), found.point[~stays], found.multipliers[~stays]
        if len(model.index):
            points, look = self._corrected(walk, model, points, walk.look_at(model.index, points))
            walk.move(model.index, points, look, model.everywhere(weights))
            walk.arrive(model.index[look.reached])
            # What is left to do for those is not to be seen in the logits.
            walk.work_on_outputs(model.index[~look.reached & (look.violations.amax(dim=1) <= 0)])

    def _unstick(self, walk: BoundaryWalk, index: Tensor) -> None:
        """Images whose linearised problem asks for no step: in the logits' region, or with no way on."""
        was = walk.in_outputs[index]
        walk.work_on_outputs(index)
        walk.problem.end(index[was | ~walk.in_outputs[index]], "infeasible")

    def _pull(self, walk: BoundaryWalk) -> None:
        """Takes the margin back at the end: most of it, or half of it, straight towards the original image."""
        waiting = walk.found.nonzero()[:, 0]
        for share in _PULLS if self.margin > 0 else ():
            shorter = (1 - share * self.margin) * walk.perturbation[waiting]
            there = walk.look_at(waiting, shorter).reached
            walk.perturbation[waiting[there]] = shorter[there]
            waiting = waiting[~there]
        walk.problem.tick(walk.found.nonzero()[:, 0])

    def _corrected(self, walk: BoundaryWalk, model: LocalModel, points: Tensor, look: Look) -> tuple[Tensor, Look]:
        """Points (b, m) after chord corrections, while these bring them much nearer to the target."""
        pending = ~look.reached & model.knows(look)
        for _ in range(self.corrections):
            chosen = pending.nonzero()[:, 0]
            if len(chosen) == 0:
                break
            part, before = model.select(chosen), look.select(chosen)
            tried = part.nearest(points[chosen], points[chosen], before).point
            after = walk.look_at(part.index, tried)
            old, new = part.merit(before), part.merit(after)
            better = after.reached | (new < old)
            points = points.index_copy(0, chosen[better], tried[better])
            look = look.replaced(chosen[better], after.select(better.nonzero()[:, 0]))
            pending[chosen] = ~after.reached & (new <= _FALLS * old) & part.knows(after)
        return points, look

    def _shrink(self, walk: BoundaryWalk, model: LocalModel) -> None:
        """A step towards the original image, shorter and shorter ones if need be; without one an image is done."""
        present, look = walk.perturbation[model.index], walk.look.select(model.index)
        trying = torch.ones(len(model.index), dtype=torch.bool, device=model.index.device)
        for attempt in range(self.tries):
            chosen = trying.nonzero()[:, 0]
            if len(chosen) == 0:
                break
            part = model.select(chosen)
            taken = self._step_inwards(walk, part, self.momentum if attempt == 0 else 0.0)
            trying[chosen[taken]] = False
            shorter = part.index[~taken]
            walk.aim[shorter] = (1 + walk.aim[shorter]) / 2
        walk.done[model.index] |= trying | (walk.stalls[model.index] >= _STALLS)
        ends = walk.done[model.index]
        walk.problem.gap[model.index[ends]] = model.select(ends).gap(present[ends], look.select(ends.nonzero()[:, 0]))

    def _step_inwards(self, walk: BoundaryWalk, model: LocalModel, momentum: float) -> Tensor:
        """One step; returns for which images (b,) it was taken."""
        index = model.index
        present, look = walk.perturbation[index], walk.look.select(index)
        length = lengths(present)
        aim = walk.aim[index, None].to(present) * present + momentum * walk.last[index]
        found = model.nearest(aim, present, look)
        points = found.point
        good, first = torch.zeros(2, len(index), dtype=torch.bool, device=index.device)
        pending = lengths(points) < _SHORTER * length
        for attempt in range(self.corrections + 1):
            chosen = pending.nonzero()[:, 0]
            if len(chosen) == 0:
                break
            seen = walk.look_at(index[chosen], points[chosen])
            look = look.replaced(chosen, seen)
            good[chosen] = seen.reached
            first[chosen] = seen.reached & (attempt == 0)
            chosen = chosen[~seen.reached]
            if len(chosen) == 0 or attempt == self.corrections:
                break
            part = model.select(chosen)
            start = found.multipliers[chosen]
            again = part.nearest(aim[chosen], points[chosen], look.select(chosen), start)
            points = points.index_copy(0, chosen, again.point)
            pending = pending & ~good & (lengths(points) < _SHORTER * length)
        taken = good.nonzero()[:, 0]
        gain = 1 - lengths(points[taken]) / length[taken]
        walk.stalls[index[taken]] = torch.where(gain < _GAIN, walk.stalls[index[taken]] + 1, 0)
        walk.move(index[taken], points[taken], look.select(taken), model.everywhere(found.multipliers)[taken])
        bold = index[first]
        walk.aim[bold] = (1 - (1 - walk.aim[bold]) * _BOLDER).clamp(min=0)
        return good
