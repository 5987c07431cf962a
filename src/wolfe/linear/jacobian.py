"""Jacobians of a batch of images: whole, or by their products with vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from wolfe.linear.calibration import FIXED, Calibration, Push, in_force
from wolfe.linear.memory import allocated, out_of_memory, rows_that_fit


class Linearisation:
    """A function around a batch of images: its values there, and products with its Jacobian J.

    The graph of one forward pass is kept as long as the object. The images of a batch must not influence each
    other's values (no batch statistics), so that a gradient summed over the batch holds each image's own.

    Args:
        function: maps images (B, C, H, W) to values (B, n).
        images: (B, C, H, W).

    Attributes:
        values: (B, n), detached.
        calibration: how products are worked out; the fixed rule, unless :meth:`use` says something else.
    """

    calibration: Calibration = FIXED
    # Whether the graph that is kept leads to the values themselves.
    _whole = True
    # At most so many rows in one pass: fewer once memory was too small or a layer could not be vectorised.
    _most = sys.maxsize
    # The way to a Jacobian-vector product that worked where the calibration's did not.
    _push: Push | None = None

    def __init__(self, function: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self._function = function
        before = allocated(images.device)
        with torch.enable_grad():
            self._inputs = images.detach().requires_grad_(True)
            self._outputs = function(self._inputs)
        self.values = self._outputs.detach()
        self._graph = allocated(images.device) - before

    @property
    def push_cost(self) -> float:
        """What a Jacobian-vector product costs, in rows worked out together."""
        return self.calibration.push_cost

    def use(self, calibration: Calibration | None) -> None:
        """Takes over a calibration, if it was measured on this kind of device; the fixed rule if not, or for None."""
        self.calibration = in_force(calibration, self._inputs.device)

    def rows(self, weights: Tensor) -> Tensor:
        """`w' J` (B, k, *image), detached, for weights (B, k, n): k vector-Jacobian products an image.

        Small batches take many rows in one vectorised pass, large ones one pass a row; networks whose layers cannot be
        vectorised always do the latter. Where memory does not suffice for so many rows, half of them go together.

        Raises:
            torch.OutOfMemoryError: memory does not suffice for one row.
        """
        images, count = weights.shape[:2]
        if not self._outputs.requires_grad or count == 0:
            return self._inputs.new_zeros(images, count, *self._inputs.shape[1:])
        wanted = weights.transpose(0, 1).to(self._outputs)
        together, done, parts = self._together(count), 0, []
        while done < count:
            try:
                parts.append(self._pass(wanted[done : done + together]))
                done += together
            except RuntimeError as error:
                if together == 1:
                    raise
                self._most = together // 2 if out_of_memory(error) else 1
                together = self._together(count)
        if together > 1:
            return torch.cat(parts).transpose(0, 1).detach()
        return torch.cat([part.transpose(0, 1) for part in parts], dim=1).detach()

    def jacobian(self) -> Tensor:
        """J itself (B, n, *image), detached: n vector-Jacobian products an image."""
        return self.rows(every_row(self.values))

    def push(self, directions: Tensor) -> Tensor:
        """`J d` (B, n), detached, for directions (B, *image): one Jacobian-vector product an image.

        By a forward derivative or by two backward passes; where a layer has no such derivative, by the other way.

        Raises:
            RuntimeError: a layer has neither.
            torch.OutOfMemoryError: memory does not suffice.
        """
        first = self._push or self.calibration.push
        try:
            return self.push_by(first, directions)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
        (other,) = set(get_args(Push)) - {first}
        pushed = self.push_by(other, directions)
        self._push = other
        return pushed

    def push_by(self, way: Push, directions: Tensor) -> Tensor:
        """`J d` as :meth:`push`, one way alone.

        Attention is worked out by its plain formula where its fused kernels have no such derivative.
        """
        if way == "double_backward":
            return self._push_by_backward_passes(directions)
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            dual = forward_ad.make_dual(self._inputs.detach(), directions.to(self._inputs))
            pushed = forward_ad.unpack_dual(self._function(dual)).tangent
        return torch.zeros_like(self.values) if pushed is None else pushed

    def _together(self, count: int) -> int:
        """How many of so many rows to work out in one pass."""
        together = min(count, self.calibration.together // max(1, self._inputs.numel()))
        least = self.calibration.vectorised_from
        if least is None or together < max(2, least):
            return 1
        row = self._graph + 2 * self._inputs.numel() * self._inputs.element_size()
        return min(together, self._most, rows_that_fit(row, self._inputs.device))

    def _pass(self, wanted: Tensor) -> Tensor:
        """Rows (k, B, *image) for weights (k, B, n), in one backward pass."""
        inputs, outputs = self._inputs, self._outputs
        if len(wanted) == 1:
            return torch.autograd.grad(outputs, inputs, wanted[0], retain_graph=True, materialize_grads=True)[0][None]
        (rows,) = torch.autograd.grad(
            outputs, inputs, wanted, retain_graph=True, is_grads_batched=True, allow_unused=True
        )
        return inputs.new_zeros(len(wanted), *inputs.shape) if rows is None else rows

    def _push_by_backward_passes(self, directions: Tensor) -> Tensor:
        """`J d` by the graph that is kept or, where attention's fused kernel is in the way, by one without it."""
        try:
            if self._whole:
                return _twice_backward(self._inputs, self._outputs, directions)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            inputs = self._inputs.detach().requires_grad_(True)
            return _twice_backward(inputs, self._function(inputs), directions)


def _twice_backward(inputs: Tensor, outputs: Tensor, directions: Tensor) -> Tensor:
    """`J d` (B, n): J' u is linear in u, and the gradient of `d' J' u` by u is what is wanted.

    Raises:
        RuntimeError: the backward pass of a layer has no derivative, or one that is wrong: an operation in it was
            hidden from autograd.
    """
    if not outputs.requires_grad:
        return torch.zeros_like(outputs)
    directions = directions.to(inputs)
    with torch.enable_grad():
        probe = torch.arange(outputs.numel(), device=outputs.device).cos().to(outputs).view_as(outputs).requires_grad_()
        (pulled,) = torch.autograd.grad(outputs, inputs, probe, create_graph=True, materialize_grads=True)
    pushed = torch.zeros_like(outputs)
    if pulled.requires_grad:
        (pushed,) = torch.autograd.grad(pulled, probe, directions, materialize_grads=True)
    with torch.no_grad():
        # u' (J d) and (J' u)' d are the same number.
        left, right = (probe * pushed).double(), (pulled * directions).double().flatten(1)
        allowed = 4 * torch.finfo(outputs.dtype).eps ** 0.5 * (left.norm(dim=1) + right.norm(dim=1))
        if bool(((left.sum(dim=1) - right.sum(dim=1)).abs() > allowed).any()):
            raise RuntimeError("the derivative of a layer's backward pass is wrong: its operations are hidden")
    return pushed.detach()


def dense_jacobian(function: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Values (B, n) and their Jacobian (B, n, *image), detached; see :class:`Linearisation`.

    Args:
        function: maps images (B, C, H, W) to values (B, n).
        images: (B, C, H, W).

    Returns:
        The values and the Jacobian.
    """
    local = Linearisation(function, images)
    return local.values, local.jacobian()


def every_row(values: Tensor) -> Tensor:
    """The weights (B, n, n) whose rows are the Jacobian itself, for values (B, n)."""
    return torch.eye(values.shape[1], dtype=values.dtype, device=values.device).expand(len(values), -1, -1)
