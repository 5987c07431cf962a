"""Auto-PGD: the step rule of Croce and Hein, for losses to be lowered in an l_inf ball.

"Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks", ICML 2020,
Algorithm 1. The directions come from outside; here are the momentum, the ball, the check points and the halving.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_points(max_iterations: int) -> list[int]:
    """The numbers of steps after which the step size is judged: ceil(p_j N), each share p_j 0.03 closer to the last.

    p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06). Short runs have fewer check points.

    >>> check_points(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    points, before, share = set(), 0.0, 0.22
    # A rounding error must not push a whole number to the next.
    while (point := math.ceil(share * max_iterations - 1e-9)) <= max_iterations and share <= 1:
        points.add(point)
        before, share = share, share + max(share - before - 0.03, 0.06)
    return sorted(points)


class AutoPGD:
    """The state of a batch of descents; `index` always means positions (b,) in the batch.

    Used as: `enter` the loss and the direction of the present images, then `move`, and so on.

    Args:
        start: (B, C, H, W) in [0, 1], the centres of the balls.
        radius: of the balls, l_inf.
        step_size: the first step: a direction whose values lie in [-1, 1] is multiplied by it.
        momentum: share of the new step; the rest is the last move (0.75 in the paper).
        rho: share of the steps since the last check point that must lower the loss (0.75 in the paper).
        max_iterations: steps planned; they place the check points.

    Attributes:
        present: (B, C, H, W), where the descents are.
        best: (B, C, H, W), the image of the least loss entered.
        best_loss: (B,), that loss.
        step: (B,), the step sizes in force.
    """

    def __init__(
        self, start: Tensor, radius: float, step_size: float, momentum: float, rho: float, max_iterations: int
    ) -> None:
        self._low, self._high = (start - radius).clamp(min=0), (start + radius).clamp(max=1)
        self._momentum, self._rho = momentum, rho
        self._windows = _windows(max_iterations)
        self._steps = 0
        self.present, self._before, self.best = start.clone(), start.clone(), start.clone()
        self._direction, self._best_direction = torch.zeros_like(start), torch.zeros_like(start)
        self.step = torch.full((len(start),), step_size, dtype=start.dtype, device=start.device)
        self.best_loss = torch.full_like(self.step, torch.inf)
        self._last_loss, self._checked_loss = self.best_loss.clone(), self.best_loss.clone()
        self._falls = torch.zeros(len(start), dtype=torch.long, device=start.device)
        self._halved = torch.zeros(len(start), dtype=torch.bool, device=start.device)

    def enter(self, index: Tensor, loss: Tensor, direction: Tensor) -> None:
        """Notes the losses (b,) of the present images and the directions (b, C, H, W) in which to go on."""
        self._falls[index] += (loss < self._last_loss[index]).long()
        self._last_loss[index] = loss
        self._direction[index] = direction
        better = loss < self.best_loss[index]
        improved = index[better]
        self.best[improved], self.best_loss[improved] = self.present[improved], loss[better]
        self._best_direction[improved] = direction[better]
        if self._steps == 0:
            self._falls[index] = 0
            self._checked_loss[index] = loss
        elif self._steps in self._windows:
            self._check(index, self._windows[self._steps])

    def _check(self, index: Tensor, window: int) -> None:
        """Halves steps that got nowhere since the last check point, `window` steps ago; those restart from the best."""
        # Condition 1: too few steps lowered the loss. Condition 2: neither step size nor best loss has changed.
        stuck = self._falls[index] < self._rho * window
        stuck |= ~self._halved[index] & (self.best_loss[index] == self._checked_loss[index])
        self._halved[index], self._checked_loss[index], self._falls[index] = stuck, self.best_loss[index], 0
        index = index[stuck]
        self.step[index] /= 2
        self.present[index], self._last_loss[index] = self.best[index], self.best_loss[index]
        self._direction[index] = self._best_direction[index]

    def move(self, index: Tensor) -> None:
        """One step of every image in work; they all have made the same number of them."""
        present, low, high = self.present[index], self._low[index], self._high[index]
        aim = (present + self.step[index][:, None, None, None] * self._direction[index]).clamp(low, high)
        share = self._momentum if self._steps else 1.0
        mixed = present + share * (aim - present) + (1 - share) * (present - self._before[index])
        self._before[index] = present
        self.present[index] = mixed.clamp(low, high)
        self._steps += 1


def _windows(max_iterations: int) -> dict[int, int]:
    """For each check point the steps since the one before."""
    points = check_points(max_iterations)
    return {point: point - before for before, point in zip([0, *points], points, strict=False)}
