"""JMA's linearised problems: solved with the whole Jacobian, or with the few rows of it that matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wolfe.classifier import Classifier
from wolfe.linear import LazySolution, LeastNormSolution, Linearisation, lazy_least_norm, least_norm
from wolfe.linear.calibration import FIXED, in_force
from wolfe.linear.lazy import foremost
from wolfe.linear.shrinking import Products
from wolfe.region import TargetRegion

# In units of the spacing of numbers of the logits' type: what sums over a network's layers may differ by.
_ROUNDING = 64

Solver = Literal["auto", "dense", "lazy"]
# What the lazy way takes, in rows of a Jacobian and in Jacobian-vector products: so many of both, and so many more rows
# for every violated constraint (few are cheap, of many most are never active) or for every member of a working set that
# is known. Medians of three networks (ViT, ResNet, Inception of 64x64 images, one core, 8 images a batch; a product
# took the time of 3 rows) with 16 to 100 outputs, one-hot and with 2, 5 and 10 flipped labels: known sets of 3, 8, 13
# and 22 took 12, 22, 33 and 50 rows' time, cold starts 14 to 40 (two flips of 20 to 64 labels, one-hot) and with ten
# flips as long as the whole Jacobian.
_COLD_ROWS, _COLD_PUSHES, _COLD_EACH, _MANY = 15.0, 3.0, 2.0, 10
_WARM_PUSHES, _WARM_EACH = 2.0, 2.2
# Solves the problem of some images (b,) of a batch: their values (b, n), region, and slopes (b, n) of the values by the
# logits, None for the logits themselves.
_Solve = Callable[[Tensor, Tensor, TargetRegion, Tensor | None], LeastNormSolution]


class LinearSteps:
    """The linearised problems of one call of the attack. `index` means positions (b,) among all its images.

    Args:
        classifier: ready for attack.
        targets: of all images, on the classifier's device.
        margin: how far inside the linearised region to aim, in logits.
        solver: "dense", "lazy", or "auto" for the one that should take less time.
    """

    def __init__(self, classifier: Classifier, targets: Tensor, margin: float, solver: Solver) -> None:
        self.classifier, self.targets, self.margin = classifier, targets, margin
        # A network that brings its own linearisation has cheap rows.
        own = solver == "auto" and hasattr(classifier.net, "linearise")
        self._solver = "dense" if own else solver
        # The constraints (B, w) that an image's last lazy solution rests on, filled up with -1.
        self._working = torch.full((len(targets), 0), -1, device=targets.device)

    def wants_jacobian(self, logits: Tensor, index: Tensor) -> bool:
        """Whether the problems of images with these logits (b, n) are to be solved with the whole Jacobian."""
        if self._solver != "auto" or len(logits) == 0:
            return self._solver == "dense"
        violated = (self.classifier.encoding.region(self.targets[index]).violations(logits) > 0).sum(dim=1)
        known = (self._working[index] >= 0).sum(dim=1)
        push_cost = in_force(self.classifier.calibration, logits.device).push_cost
        return logits.shape[1] <= float(_lazy_cost(violated, known, push_cost).mean())

    def by_jacobian(self, logits: Tensor, jacobian: Tensor, index: Tensor) -> LeastNormSolution:
        """Solutions from logits (b, n) and Jacobians (b, n, *image)."""

        def solve(chosen: Tensor, values: Tensor, region: TargetRegion, slopes: Tensor | None) -> LeastNormSolution:
            """Solves a part of the images."""
            part = jacobian if slopes is None else jacobian[chosen] * slopes[:, :, None, None, None]
            return least_norm(part, values, region, self._aim(values))

        solution = self._in_two_spaces(logits, index, solve)
        if self._solver == "auto":
            self._remember(index, foremost(solution.multipliers, (solution.multipliers > 0).sum(dim=1)))
        return solution

    def by_rows(self, local: Linearisation, images: Tensor, index: Tensor) -> LazySolution:
        """Solutions from products with the Jacobian at images (b, C, H, W), and what they cost."""
        vjps, jvps, forwards = torch.zeros(3, len(index), dtype=torch.long, device=index.device)
        finite = torch.ones(len(index), dtype=torch.bool, device=index.device)

        def solve(chosen: Tensor, values: Tensor, region: TargetRegion, slopes: Tensor | None) -> LeastNormSolution:
            """Solves a part of the images, and adds up what that costs."""

            def around(part: Tensor) -> Products:
                """Products around some images of the part."""
                products = self.classifier.linearise(images[chosen[part]])
                return products if slopes is None else _Sloped(products, slopes[part])

            everything = torch.arange(len(chosen), device=index.device)
            start = self._working[index[chosen]]
            products = local if slopes is None else around(everything)
            found = lazy_least_norm(products, values, region, self._aim(values), start=start, again=around)
            vjps[chosen] += found.vjps
            jvps[chosen] += found.jvps
            forwards[chosen] += found.forwards + (slopes is not None)
            finite[chosen] &= found.finite
            self._remember(index[chosen], found.working)
            if not found.forward_mode:
                self._solver = "dense"
            return found.solution

        solution = self._in_two_spaces(local.values, index, solve)
        return LazySolution(solution, self._working[index], finite, vjps, jvps, forwards, self._solver == "lazy")

    def _remember(self, index: Tensor, working: Tensor) -> None:
        """Keeps working sets (b, w) for these images' next problems."""
        missing = working.shape[1] - self._working.shape[1]
        self._working = functional.pad(self._working, (0, max(0, missing)), value=-1)
        self._working[index] = functional.pad(working, (0, max(0, -missing)), value=-1)

    def _in_two_spaces(self, logits: Tensor, index: Tensor, solve: _Solve) -> LeastNormSolution:
        """The least-norm step in the logits, or in the outputs where the logits are in the region already.

        For ECOC the region of the logits is not the decision, which is taken after tanh: an image may be inside
        without deciding for the target, and its step in the logits would be zero.
        """
        encoding = self.classifier.encoding
        region = encoding.region(self.targets[index])
        step = solve(torch.arange(len(index), device=index.device), logits, region, None)
        stalled = (~step.infeasible & (step.multipliers.amax(dim=1) <= 0)).nonzero()[:, 0]
        if len(stalled):
            values, slopes = encoding.outputs(logits[stalled]), encoding.output_slopes(logits[stalled])
            other = solve(stalled, values, region.select(stalled), slopes)
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


class _Sloped:
    """Products with the Jacobian of the outputs, which are the logits' one by one.

    Args:
        local: products with the logits' Jacobian.
        slopes: of the outputs by the logits (b, n).
    """

    def __init__(self, local: Products, slopes: Tensor) -> None:
        self.local, self.slopes = local, slopes
        self.push_cost: float = getattr(local, "push_cost", FIXED.push_cost)

    def rows(self, weights: Tensor) -> Tensor:
        """`w' J` (b, k, *image) for weights (b, k, n)."""
        return self.local.rows(weights * self.slopes[:, None])

    def push(self, directions: Tensor) -> Tensor:
        """`J d` (b, n) for directions (b, *image)."""
        return self.local.push(directions) * self.slopes


def _lazy_cost(violated: Tensor, known: Tensor, push_cost: float) -> Tensor:
    """What the lazy way should take (b,), in rows of a Jacobian.

    Args:
        violated: (b,) constraints that are violated where the problem is linearised.
        known: (b,) constraints of the working set from the problem before; 0 for none.
        push_cost: of a Jacobian-vector product, in rows.
    """
    cold = _COLD_ROWS + _COLD_PUSHES * push_cost + _COLD_EACH * violated.clamp(max=_MANY)
    return torch.where(known > 0, _WARM_PUSHES * push_cost + _WARM_EACH * known, cold)
