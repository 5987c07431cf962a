"""A linear model of the constraints around some perturbations, of those constraints that may matter."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from wolfe.attacks.boundary_walk import ROUNDING, BoundaryWalk, Look, lengths
from wolfe.attacks.problem import Problem
from wolfe.linear import Linearisation
from wolfe.linear.finite import all_finite
from wolfe.linear.nearest import NearestPoint, nearest_point
from wolfe.linear.products import gram_matrix
from wolfe.linear.shrinking import ShrinkingProducts

# Constraints as near to being violated as this share of the logits' size are taken in; and so many at most.
_NEARBY, _MOST = 0.05, 32
# A projection may miss its half-spaces by this share of the margin: the network's curvature misses them by more.
_PRECISION = 0.05
# And by so many times the spacing of numbers of the perturbation's length.
_ROUGH = 32


@dataclass(frozen=True)
class LocalModel:
    """Half-spaces `a_i (d' - d) + g_i + margin_i <= 0` of some images.

    Attributes:
        walk: of the whole batch.
        index: positions (b,) of the images in it.
        rows: gradients a (b, j, m) of the constraints in the model; zeros where an image has fewer.
        gram: their products (b, j, j), float64.
        place: which constraints (b, j) they are.
        present: (b, j) whether there is one.
        accuracy: (b,), what a projection may miss a half-space by, as a distance.
        margin: (b, k), how far inside to aim, in units of the constraints.
    """

    walk: BoundaryWalk
    index: Tensor
    rows: Tensor
    gram: Tensor
    place: Tensor
    present: Tensor
    accuracy: Tensor
    margin: Tensor

    def select(self, chosen: Tensor) -> LocalModel:
        """The model of some of its images, by their positions in it or a mask."""
        names = [part.name for part in fields(self) if part.name != "walk"]
        return LocalModel(self.walk, *(getattr(self, name)[chosen] for name in names))

    def nearest(self, aim: Tensor, perturbations: Tensor, look: Look, start: Tensor | None = None) -> NearestPoint:
        """The nearest perturbations to `aim` (b, m) that meet the model moved to (b, m), where the network is `look`.

        The gradients stay those of the point where the model was made (a chord), the values are the new ones. `start`
        are the multipliers (b, j) of a projection nearby.
        """
        values = (look.violations + self.margin).gather(1, self.place)
        bounds = (self.rows @ perturbations[:, :, None])[:, :, 0].double() - values
        bounds = torch.where(self.present, bounds, 1.0)
        box = self.walk.low[self.index], self.walk.high[self.index]
        return nearest_point(aim, self.rows, bounds, *box, self.accuracy, gram=self.gram, start=start)

    def gap(self, perturbations: Tensor, look: Look) -> Tensor:
        """By what share (b,) of its length the model would have a perturbation at the target shorter, 0 to 1.

        Args:
            perturbations: (b, m), where the model was made.
            look: the network there.
        """
        exact = replace(self, margin=torch.zeros_like(self.margin))
        nearest = exact.nearest(torch.zeros_like(perturbations), perturbations, look)
        return (1 - lengths(nearest.point) / lengths(perturbations)).clamp(0, 1)

    def everywhere(self, multipliers: Tensor) -> Tensor:
        """Multipliers (b, j) of the model's constraints as those of all (b, k)."""
        none = torch.zeros_like(self.margin)
        return none.scatter_add(1, self.place, torch.where(self.present, multipliers, 0.0))

    def merit(self, look: Look) -> Tensor:
        """How far (b,) from the target, in units of the perturbation: each violation by its gradient's norm."""
        left = (look.violations + self.margin).clamp(min=0)
        return (left / self.walk.usual_norms(self.index)).sum(dim=1)

    def knows(self, look: Look) -> Tensor:
        """Whether (b,) all violated constraints are in the model."""
        inside = torch.zeros_like(look.violations, dtype=torch.bool).scatter(1, self.place, self.present)
        return ~((look.violations > 0) & ~inside).any(dim=1)


def local_model(walk: BoundaryWalk, index: Tensor, margin: float) -> LocalModel:
    """The model around the present perturbations; images with values that are not finite are left out and end.

    Costs a forward pass and one vector-Jacobian product for every constraint taken in: those that are violated, nearly
    so, or had a multiplier.

    Args:
        walk: of the whole batch.
        index: positions (b,) of the images.
        margin: how far inside the half-spaces to aim, as a share of the present perturbation's length.
    """
    problem = walk.problem
    images = walk.images(index, walk.perturbation[index])
    place, present = _working_set(walk, index)
    local = problem.linearise(images, index)
    problem.observe(walk.steps[index], index, images, local.values)
    weights = problem.region(index).rows(place).to(local.values) * present[:, :, None]
    slopes = problem.encoding.output_slopes(local.values)
    weights = torch.where(walk.in_outputs[index, None, None], weights * slopes[:, None], weights)
    rows = _rows(problem, local, images, index, weights, present.sum(dim=1))
    problem.iterations[index] = walk.steps[index]
    going = problem.continuing(index, all_finite(rows) & all_finite(local.values))
    index, place, present, rows = index[going], place[going], present[going], rows[going].flatten(2).to(walk.dtype)
    gram = gram_matrix(rows)
    # A constraint that no pixel moves is nothing to be moved by.
    size = gram.diagonal(dim1=1, dim2=2).sqrt()
    present &= size > 0
    seen = torch.full_like(walk.norms[index], torch.nan)
    seen = seen.scatter(1, place, torch.where(present, size, torch.nan))
    walk.norms[index] = torch.where(seen.isnan(), walk.norms[index], seen)
    norms = walk.usual_norms(index)
    length = _length(walk, index, norms)
    depth = margin * length
    # Without a margin rounding would decide on which side of a plane a point comes to lie.
    values = walk.look.logits[index].double().abs().amax(dim=1, keepdim=True)
    rounding = 2 * ROUNDING * torch.finfo(local.values.dtype).eps * values
    accuracy = torch.maximum(_PRECISION * depth, _ROUGH * torch.finfo(walk.dtype).eps * length)
    return LocalModel(walk, index, rows, gram, place, present, accuracy, norms * depth[:, None] + rounding)


def _rows(
    problem: Problem, local: Linearisation, images: Tensor, index: Tensor, weights: Tensor, count: Tensor
) -> Tensor:
    """`w' J` (b, j, *image) for weights (b, j, n), the first `count` (b,) of which are not zero; and the books."""
    products = ShrinkingProducts(
        local, len(images), images.device, lambda part: problem.classifier.linearise(images[part])
    )
    rows = products.rows(weights, count)
    problem.book(index, forwards=products.forwards, vjps=products.vjps)
    return rows


def _working_set(walk: BoundaryWalk, index: Tensor) -> tuple[Tensor, Tensor]:
    """Which constraints (b, j) to take in, the foremost of each image always, and where (b, j) there is one."""
    violations, weights = walk.look.violations[index], walk.weights[index]
    wanted = (violations > -_NEARBY * walk.scale[index, None]) | (weights > 0)
    wanted |= violations >= violations.amax(dim=1, keepdim=True)
    urgency = torch.where(weights > 0, torch.inf, violations).masked_fill(~wanted, -torch.inf)
    count = wanted.sum(dim=1).clamp(max=_MOST)
    place = urgency.topk(int(count.max()), dim=1).indices
    return place, torch.arange(place.shape[1], device=place.device) < count[:, None]


def _length(walk: BoundaryWalk, index: Tensor, norms: Tensor) -> Tensor:
    """The length (b,) of the perturbations; before the first step, the distance to the farthest violated plane."""
    ahead = (walk.look.violations[index].clamp(min=0) / norms).amax(dim=1)
    length = lengths(walk.perturbation[index])
    return torch.where(length > 0, length, ahead)
