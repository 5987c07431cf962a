"""SemA-ML: semantic-aware multi-label attacks.

Mahmood, Elhamifar: "Semantic-Aware Multi-Label Adversarial Attacks", CVPR 2024; in the form of the JMA paper,
Section VII. The threshold, the first step and the check points are those of its released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wolfe.attacks.auto_pgd import AutoPGD
from wolfe.attacks.base import Attack, require_choice, require_positive
from wolfe.attacks.problem import Problem
from wolfe.encoding import Encoding
from wolfe.linear.finite import all_finite

# At this cosine of the two gradients or below, changing some labels would move the others.
_OPPOSED = -0.85
# In units of the spacing of numbers near 1: what is left by rounding of a vector of signs that lies in a span.
_ROUNDING = 64


@dataclass(frozen=True, kw_only=True)
class SemAML(Attack):
    """Auto-PGD in an l_inf ball that moves some labels across the gradient of the others.

    The labels to change are those in which the wanted vector differs from the first prediction; their binary cross-
    entropies, summed, have the gradient g1, those of the other labels g2. Unless the two oppose each other, a step
    follows the sign of both; where they do, it follows the sign of g1 less its part along g2. What Auto-PGD judges
    its steps by is the sum over all labels. `iterations` is the number of steps made; an image stops at its first
    success, and where there is none its image of the least loss is returned.

    With `context.label_graph` the wanted vector is the target's closure from the prediction, and may differ from
    the target: success is still judged on the target, in full, and such an image stops when it is where it wanted.

    Multi-label only.

    Attributes:
        epsilon: largest change of a value, images in [0, 1].
        max_iterations: steps at most.
        step_size: the first step of Auto-PGD, on directions in [-1, 1].
        momentum: alpha of Auto-PGD, the share of the new step.
        rho: of Auto-PGD, the share of steps between check points that must lower the loss.
        projection: "aggregate" is the above; "qr" always moves orthogonally to the gradient of every label to
            keep, at the cost of a Jacobian a step, as the method's first version does.
        success_on: "all" stops at the wanted vector; "changed" where the labels to change are right, as in the
            released code. The verdict is always on the full target.
        use_graph: whether to use `context.label_graph` where there is one.
    """

    epsilon: float = 0.01
    max_iterations: int = 300
    step_size: float = 0.012
    momentum: float = 0.75
    rho: float = 0.75
    projection: Literal["aggregate", "qr"] = "aggregate"
    success_on: Literal["all", "changed"] = "all"
    use_graph: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epsilon", "max_iterations", "step_size", "momentum", "rho")
        require_choice(self, "projection", "aggregate", "qr")
        require_choice(self, "success_on", "all", "changed")
        for name in ("momentum", "rho"):
            if getattr(self, name) > 1:
                raise ValueError(f"{type(self).__name__}: {name} must be <= 1, got {getattr(self, name)!r}")

    def serves(self, encoding: Encoding) -> bool:
        """Multi-label only."""
        return encoding.multi_label

    def _run(self, problem: Problem) -> None:
        wanted, changed = self._wishes(problem)
        descent = AutoPGD(problem.start, self.epsilon, self.step_size, self.momentum, self.rho, self.max_iterations)
        active = problem.unfinished()
        for iteration in range(self.max_iterations + 1):
            if len(active) == 0:
                break
            present = descent.present[active]
            last = iteration == self.max_iterations
            logits, losses, direction = self._look(problem, present, active, wanted[active], changed[active], last)
            problem.observe(iteration, active, present, logits)
            problem.iterations[active] = iteration
            stopping = self._stopping(problem, logits, active, wanted[active], changed[active], iteration)
            finite = logits.isfinite().all(dim=1) & all_finite(direction)
            going = problem.continuing(active, finite)
            descent.enter(active[finite], losses[finite], direction[finite])
            problem.keep(active, descent.best[active])
            problem.keep(active[stopping], present[stopping])
            active = active[going & ~stopping & (direction.flatten(1).abs().amax(dim=1) > 0)]
            if not last:
                descent.move(active)

    def _wishes(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """The label vectors to reach (B, n), and which labels (B, n) must change for that."""
        present = problem.encoding.bits(problem.start_logits)
        graph = problem.context.label_graph if self.use_graph else None
        wanted = problem.target if graph is None else graph.closure(present, problem.target)
        return wanted, wanted != present

    def _stopping(
        self, problem: Problem, logits: Tensor, index: Tensor, wanted: Tensor, changed: Tensor, iteration: int
    ) -> Tensor:
        """Which (b,) images are done; notes those that reach their target."""
        reached = problem.reached(logits, index)
        problem.first_success[index[reached]] = iteration
        right = problem.encoding.bits(logits) == wanted
        if self.success_on == "changed":
            right |= ~changed
        return reached | right.all(dim=1)

    def _look(
        self, problem: Problem, images: Tensor, index: Tensor, wanted: Tensor, changed: Tensor, last: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (b, n), losses (b,) and directions (b, C, H, W) of images; the last are only judged."""
        objectives = partial(_losses, wanted, changed)
        if last:
            logits = problem.logits(images, index)
            return logits, objectives(logits).sum(dim=1), torch.zeros_like(images)
        if self.projection == "aggregate":
            logits, losses, slopes = problem.gradients(images, index, objectives)
            return logits, losses.sum(dim=1), _known(aggregate_direction(slopes[:, 0], slopes[:, 1]), slopes)
        logits, jacobian = problem.logits_and_jacobian(images, index)
        weights = torch.where(changed, logits.sigmoid() - wanted.to(logits), 0)
        gradient = torch.einsum("bn,bnchw->bchw", weights, jacobian)
        return (
            logits,
            objectives(logits).sum(dim=1),
            _known(orthogonal_direction(gradient, jacobian, ~changed), jacobian),
        )


def _known(direction: Tensor, slopes: Tensor) -> Tensor:
    """A direction (b, C, H, W), NaN where slopes (b, ...) are not finite, whose sign would be zero."""
    return torch.where(all_finite(slopes)[:, None, None, None], direction, torch.nan)


def aggregate_direction(gradient: Tensor, others: Tensor) -> Tensor:
    """Where to go, given the gradients (b, C, H, W) of the losses of the labels to change and of the others.

    With both normalised (the released code multiplies their sum by a length, which its sign does not see): minus the
    sign of their sum; or, where their cosine is -0.85 or less, minus the sign of the first projected on the
    complement of the second, scaled to a largest value of 1. Because it is the sign that is projected, the latter
    leaves the second loss alone to first order but need not lower the first.
    """
    first, second = _unit(gradient.flatten(1)), _unit(others.flatten(1))
    sign = first.sign()
    across = _scaled(sign - second * (second * sign).sum(dim=1, keepdim=True))
    opposed = (first * second).sum(dim=1, keepdim=True) <= _OPPOSED
    return -torch.where(opposed, across, (first + second).sign()).view_as(gradient)


def orthogonal_direction(gradient: Tensor, jacobian: Tensor, kept: Tensor) -> Tensor:
    """Minus the sign of a gradient (b, C, H, W), projected on the complement of the kept labels' gradients.

    Args:
        gradient: of the loss of the labels to change.
        jacobian: (b, n, C, H, W), the gradients of all labels.
        kept: (b, n) bool, the labels that shall not move.

    Returns:
        (b, C, H, W), scaled to a largest value of 1.
    """
    basis = _orthonormal(_unit(jacobian.flatten(2)) * kept[:, :, None])
    sign = gradient.flatten(1).sign()
    return -_scaled(_without(basis, sign)).view_as(gradient)


def _orthonormal(rows: Tensor) -> Tensor:
    """The Q (b, n, m) of the rows (b, n, m), of length 1 or 0; zeros where a row depends on those before it.

    By Gram and Schmidt, twice over for accuracy: a factorisation by reflections would fill dependent rows with
    directions that nobody asked for.
    """
    basis = torch.zeros_like(rows)
    tiny = rows.shape[2] * torch.finfo(rows.dtype).eps
    for place in range(rows.shape[1]):
        rest = _without(basis, _without(basis, rows[:, place]))
        independent = rest.norm(dim=1, keepdim=True) > tiny
        basis[:, place] = torch.where(independent, _unit(rest), 0)
    return basis


def _without(basis: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (b, m) less their part in the span of orthonormal rows (b, n, m)."""
    parts = torch.einsum("bnm,bm->bn", basis, vectors)
    return vectors - torch.einsum("bn,bnm->bm", parts, basis)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors along the last dimension at length 1; zeros stay."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(vectors.dtype).tiny)


def _scaled(vectors: Tensor) -> Tensor:
    """Remainders (b, m) of signs with a largest value of 1; those of a rounding error's size are zeros."""
    largest = vectors.abs().amax(dim=1, keepdim=True)
    real = largest > _ROUNDING * torch.finfo(vectors.dtype).eps
    return torch.where(real, vectors / torch.where(real, largest, 1), 0)


def _losses(wanted: Tensor, changed: Tensor, logits: Tensor) -> Tensor:
    """The binary cross-entropies (b, 2), summed over the labels to change and over the others."""
    each = functional.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="none")
    return torch.stack([(each * changed).sum(dim=1), (each * ~changed).sum(dim=1)], dim=1)
