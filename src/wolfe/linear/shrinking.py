"""Products with the Jacobians of a batch from which images leave, at little more than the remaining images' cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from wolfe.linear.calibration import FIXED
from wolfe.linear.memory import out_of_memory

# In units of a vector-Jacobian product of an image: what a pass costs however few images it has.
_FIXED = 4


class Products(Protocol):
    """Products with the Jacobian of a batch; see :class:`wolfe.linear.Linearisation`.

    An attribute `push_cost`, where there is one, says what `push` costs in rows.
    """

    def rows(self, weights: Tensor) -> Tensor:
        """`w' J` (B, j, *image) for weights (B, j, n)."""

    def push(self, directions: Tensor) -> Tensor:
        """`J d` (B, n) for directions (B, *image)."""


class ShrinkingProducts:
    """Products for the images of a batch that are still in work.

    A linearisation is of all its images: a product with it costs finished ones as much as the others. They are left out
    by linearising the others anew, one forward pass each, where that costs less.

    Args:
        local: products with the Jacobians of the whole batch.
        images: their number.
        device: theirs.
        again: the products of some of them, by their positions (b,); None never leaves any out.

    Attributes:
        place: (b,) positions in the batch of the images in work, ascending.
        vjps, jvps, forwards: (B,) int64, the products and forward passes that an image needed.
    """

    def __init__(
        self, local: Products, images: int, device: torch.device, again: Callable[[Tensor], Products] | None
    ) -> None:
        self._local, self._again = local, again
        # The positions of the images of `local`.
        self.place = self._held = torch.arange(images, device=device)
        self.vjps, self.jvps, self.forwards = self.place.new_zeros(3, images)

    def keep(self, going: Tensor) -> None:
        """Keeps some (b,) of the images in work."""
        self.place = self.place[going]

    def rows(self, weights: Tensor, count: Tensor) -> Tensor:
        """`w' J` (b, j, *image) for weights (b, j, n), the first `count` (b,) of which are not zero.

        All images get the first rows; what some want beyond is worked out for these alone, where that costs less.
        """
        self._leave_out(weights.shape[1])
        self.vjps[self.place] += count
        cut = self._common(weights.shape[1], count)
        first = self._local.rows(self._spread(weights[:, :cut]))[self._at()]
        if cut == weights.shape[1]:
            return first
        more = count > cut
        rest = first.new_zeros(len(first), weights.shape[1] - cut, *first.shape[2:])
        rest[more] = self._around(self.place[more]).rows(weights[more, cut:])
        return torch.cat([first, rest], dim=1)

    def push(self, directions: Tensor, asked: Tensor) -> Tensor | None:
        """`J d` (b, n) for directions (b, *image), booked where it is asked for (b,).

        None where a layer has no derivative for it.
        """
        try:
            pushed = self._local.push(self._spread(directions))[self._at()]
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            return None
        self.jvps[self.place] += asked
        return pushed

    def _common(self, most: int, count: Tensor) -> int:
        """How many rows to work out for all images, if the rest costs one more forward pass of those that want it."""
        if self._again is None or most == 0:
            return most
        common = torch.arange(1, most + 1, device=count.device)
        greedy = (count[:, None] > common).sum(dim=0)
        cost = len(self._held) * common + (greedy + _FIXED * (greedy > 0)) * (1 + most - common)
        return 1 + int(cost.argmin())

    def _leave_out(self, count: int) -> None:
        """Leaves finished images out, if that costs less than to carry them through so many rows and a product."""
        idle = len(self._held) - len(self.place)
        push_cost = getattr(self._local, "push_cost", FIXED.push_cost)
        if self._again is not None and idle * (count + push_cost) > len(self.place) > 0:
            self._local, self._held = self._around(self.place), self.place

    def _around(self, place: Tensor) -> Products:
        """The products of some images alone."""
        assert self._again is not None
        self.forwards[place] += 1
        return self._again(place)

    def _at(self) -> Tensor:
        """Where the images in work are among those of the linearisation."""
        return torch.searchsorted(self._held, self.place)

    def _spread(self, values: Tensor) -> Tensor:
        """Values (b, ...) at the places of their images in the linearisation, zeros elsewhere."""
        if len(self._held) == len(self.place):
            return values
        return values.new_zeros(len(self._held), *values.shape[1:]).index_copy(0, self._at(), values)
