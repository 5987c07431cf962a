"""What the refined attack knows of its images: where they are, how far from the target, and what it costs to cross."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wolfe.attacks.problem import Problem

# In units of the spacing of numbers of the logits' type: a decision this near could fall otherwise in another batch.
ROUNDING = 64


@dataclass(frozen=True)
class Look:
    """The network at some perturbations.

    Attributes:
        logits: (b, n).
        violations: (b, k) float64, `R v` in the space each image works in: above 0 outside a half-space.
        reached: (b,) whether the decision is the target, by more than rounding.
    """

    logits: Tensor
    violations: Tensor
    reached: Tensor

    def select(self, index: Tensor) -> Look:
        """The look at some of the images."""
        return Look(self.logits[index], self.violations[index], self.reached[index])

    def replaced(self, index: Tensor, other: Look) -> Look:
        """This look with that of some images replaced."""
        return Look(
            self.logits.index_copy(0, index, other.logits),
            self.violations.index_copy(0, index, other.violations),
            self.reached.index_copy(0, index, other.reached),
        )


class BoundaryWalk:
    """A batch on its way; perturbations are flat, `index` means positions (b,) in the batch.

    Attributes:
        low, high: (B, m), the perturbations that keep an image in [0, 1].
        perturbation: (B, m), the present one; once found, the smallest at the target so far.
        last: (B, m), the last step.
        look: the network at the present perturbation, (B, ...).
        dtype: of perturbations: the images', or float32 where that holds less.
        in_outputs: (B,) whether an image works on the outputs instead of the logits.
        weights: (B, k), multipliers of the last projection.
        norms: (B, k), of each constraint's gradient when it was last seen; NaN where it never was.
        scale: (B,), the median size of the logits at the start.
        found: (B,) whether the target was reached.
        done: (B,) whether nothing more is to be gained.
        aim: (B,), the share of the perturbation that the next step aims at.
        stalls: (B,), steps in a row that brought next to nothing.
        steps: (B,), linearisations so far.
    """

    def __init__(self, problem: Problem, aim: float) -> None:
        self.problem = problem
        self.dtype = torch.promote_types(problem.start.dtype, torch.float32)
        start = problem.start.flatten(1).to(self.dtype)
        count, device = len(start), start.device
        self.low, self.high = -start, 1 - start
        self.perturbation, self.last = torch.zeros_like(start), torch.zeros_like(start)
        self.in_outputs = torch.zeros(count, dtype=torch.bool, device=device)
        self.found, self.done = torch.zeros(2, count, dtype=torch.bool, device=device)
        self.look = self._look(torch.arange(count, device=device), problem.start_logits)
        self.weights = torch.zeros_like(self.look.violations)
        self.norms = torch.full_like(self.look.violations, torch.nan)
        self.scale = problem.start_logits.double().abs().median(dim=1).values
        self.aim = torch.full((count,), aim, dtype=torch.float64, device=device)
        self.stalls, self.steps = torch.zeros(2, count, dtype=torch.long, device=device)

    def next_batch(self) -> Tensor:
        """Positions (b,) of images still in work, as many as may be linearised together; counts their steps."""
        index = self.problem.unfinished()
        index = self.problem.together(index[~self.done[index]])
        self.steps[index] += 1
        return index

    def images(self, index: Tensor, perturbations: Tensor) -> Tensor:
        """The images (b, C, H, W) with perturbations (b, m)."""
        start = self.problem.start[index]
        return (start.to(self.dtype) + perturbations.view_as(start)).to(start.dtype).clamp(0, 1)

    def look_at(self, index: Tensor, perturbations: Tensor) -> Look:
        """One forward pass each at perturbations (b, m)."""
        return self._look(index, self.problem.logits(self.images(index, perturbations), index))

    def _look(self, index: Tensor, logits: Tensor) -> Look:
        encoding, region = self.problem.encoding, self.problem.region(index)
        outputs = encoding.outputs(logits).double()
        clearly = region.violations(outputs).amax(dim=1)
        rounding = ROUNDING * torch.finfo(logits.dtype).eps * outputs.abs().amax(dim=1)
        values = torch.where(self.in_outputs[index, None], outputs, logits.double())
        reached = self.problem.reached(logits, index) & (clearly < -rounding)
        return Look(logits, region.violations(values), reached)

    def usual_norms(self, index: Tensor) -> Tensor:
        """The norms (b, k) of the constraints' gradients; of one never seen, the mean of those that were, or 1."""
        norms = self.norms[index]
        return torch.where(norms.isnan(), norms.nanmean(dim=1, keepdim=True).nan_to_num(nan=1.0), norms)

    def move(self, index: Tensor, perturbations: Tensor, look: Look, weights: Tensor) -> None:
        """Takes a step to perturbations (b, m), with what the network says there and the multipliers (b, k)."""
        self.last[index] = perturbations - self.perturbation[index]
        self.perturbation[index] = perturbations
        self.look = self.look.replaced(index, look)
        self.weights[index] = weights

    def arrive(self, index: Tensor) -> None:
        """Notes that images are at their target; from here on their decision itself is what is linearised."""
        self.found[index] = True
        self.problem.first_success[index] = self.steps[index]
        self.last[index] = 0
        self.work_on_outputs(index)

    def work_on_outputs(self, index: Tensor) -> None:
        """From the logits to the outputs, where the decision falls: they differ for codes with an activation."""
        logits = self.look.logits[index]
        if len(index) == 0 or torch.equal(self.problem.encoding.outputs(logits), logits):
            return
        self.in_outputs[index] = True
        self.norms[index], self.weights[index] = torch.nan, 0
        self.look = self.look.replaced(index, self._look(index, logits))


def lengths(perturbations: Tensor) -> Tensor:
    """L2 lengths (b,) of perturbations (b, m), float64."""
    return torch.linalg.vector_norm(perturbations, dim=1, dtype=torch.float64)
