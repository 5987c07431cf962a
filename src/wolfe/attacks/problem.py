"""One call of an attack: its images and targets, the only way to the classifier, and the books that are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wolfe.classifier import Classifier
from wolfe.linear.finite import all_finite
from wolfe.linear.jacobian import Linearisation
from wolfe.region import TargetRegion

if TYPE_CHECKING:
    from wolfe.attacks.base import Context


@dataclass(frozen=True)
class Observation:
    """What an observer is told at a step of an attack.

    Attributes:
        step: of the attack, as its paper counts; one for all images or each its own (b,).
        index: positions (b,) in the batch of the images still in work.
        images: (b, C, H, W), as they are at this step.
        logits: theirs, (b, n).
        jacobian: of the logits by the image (b, n, C, H, W), from attacks that work it out.
        gradient: what the step follows (b, C, H, W), before it is given a length: minus the gradient of the loss, or
            its sign; from attacks that go by one.
    """

    step: int | Tensor
    index: Tensor
    images: Tensor
    logits: Tensor
    jacobian: Tensor | None = None
    gradient: Tensor | None = None


class Problem:
    """A batch under attack. `index` always means positions (b,) in the batch.

    Attributes:
        start: the images (B, C, H, W) as they came.
        target: their targets.
        start_logits: (B, n), theirs; there once the problem has begun.
        result: the images to return; at first the start.
        ended: how images ended that did not simply run out of iterations, by position.
        iterations, first_success, forwards, vjps, jvps, seconds, gap: (B,), see AttackResult.
    """

    def __init__(
        self,
        classifier: Classifier,
        images: Tensor,
        target: Tensor,
        context: Context,
        time_limit: float | None,
        progress: Callable[[int, int], None] | None,
        batch_size: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.encoding = classifier.encoding
        self.start = images
        self.target = target
        self.context = context
        self.time_limit = time_limit
        self.result = images.clone()
        self.start_logits = images.new_zeros(len(images), self.encoding.size)
        self.ended: dict[int, str] = {}
        zeros = torch.zeros(len(images), dtype=torch.long, device=images.device)
        self.iterations, self.first_success = zeros.clone(), zeros.clone()
        self.forwards, self.vjps, self.jvps = zeros.clone(), zeros.clone(), zeros.clone()
        self.seconds = torch.zeros(len(images), dtype=torch.float64)
        self.gap = torch.full((len(images),), torch.nan, dtype=torch.float64, device=images.device)
        self._batch_size = max(1, len(images)) if batch_size is None else batch_size
        # Images that have not been begun, besides those in work.
        self._waiting = 0
        self._finished = 0
        self._progress = progress
        self._clock = time.perf_counter()

    def begin(self) -> None:
        """Starts the clock and sets the images aside that are at their target already, or that cannot be run."""
        everything = torch.arange(len(self.start), device=self.start.device)
        if len(everything) == 0:
            return
        logits = self.logits(self.start, everything)
        if logits.ndim != 2 or logits.shape[1] != self.encoding.size:
            raise ValueError(
                f"the network returns logits of shape {tuple(logits.shape)}, but its encoding "
                f"{type(self.encoding).__name__} has {self.encoding.size} outputs"
            )
        self.start_logits = logits
        self.end(everything[~logits.isfinite().all(dim=1)], "not_finite")
        self.end(everything[self.encoding.reached(logits, self.target)], "already_there")
        self.tick(everything)

    def unfinished(self) -> Tensor:
        """Positions of the images that are still in work."""
        return torch.tensor(
            [i for i in range(len(self.start)) if i not in self.ended], dtype=torch.long, device=self.start.device
        )

    def together(self, waiting: Tensor) -> Tensor:
        """The first of the waiting positions (b,), as many as may be in work at a time: who finishes makes room."""
        self._waiting = max(0, len(waiting) - self._batch_size)
        return waiting[: self._batch_size]

    def end(self, index: Tensor, status: str) -> None:
        """Notes how some images ended; the first word holds."""
        for image in index.tolist():
            self.ended.setdefault(image, status)

    def logits(self, images: Tensor, index: Tensor) -> Tensor:
        """Logits (b, n): one forward pass each."""
        self.forwards[index] += 1
        return self.unbooked_logits(images)

    def unbooked_logits(self, images: Tensor) -> Tensor:
        """Logits (b, n) that no attack pays for."""
        if len(images) == 0:
            return images.new_zeros(0, self.encoding.size)
        with torch.no_grad():
            return torch.cat([self.classifier(part) for part in images.split(self._batch_size)])

    def linearise(self, images: Tensor, index: Tensor) -> Linearisation:
        """The classifier around images (b, C, H, W): one forward pass each."""
        self.book(index, forwards=1)
        return self.classifier.linearise(images)

    def jacobian(self, local: Linearisation, index: Tensor) -> Tensor:
        """The Jacobian (b, n, C, H, W) of a linearisation: n vector-Jacobian products each."""
        self.book(index, vjps=self.encoding.size)
        return local.jacobian()

    def logits_and_jacobian(self, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b, n) and Jacobian (b, n, C, H, W): one forward pass and n vector-Jacobian products each."""
        local = self.linearise(images, index)
        return local.values, self.jacobian(local, index)

    def book(
        self, index: Tensor, *, forwards: int | Tensor = 0, vjps: int | Tensor = 0, jvps: int | Tensor = 0
    ) -> None:
        """Notes what some images have cost: passes and products each, numbers or (b,)."""
        self.forwards[index] += forwards
        self.vjps[index] += vjps
        self.jvps[index] += jvps

    def begin_step(self, step: int, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a method that goes by the Jacobian begins a step with; the observer is told.

        Returns:
            Positions (b,), logits (b, n) and Jacobian (b, n, C, H, W) of the images that go on: those with finite
            values and time left.
        """
        logits, jacobian = self.logits_and_jacobian(images, index)
        self.observe(step, index, images, logits, jacobian)
        finite = logits.isfinite().all(dim=1) & all_finite(jacobian)
        going = self.continuing(index, finite)
        return index[going], logits[going], jacobian[going]

    def gradient(
        self, images: Tensor, index: Tensor, objective: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (b, n), the objective of the logits (b,) and its gradient (b, C, H, W) by the image.

        One forward pass and one vector-Jacobian product each.
        """
        logits, values, gradients = self.gradients(images, index, lambda logits: objective(logits)[:, None])
        return logits, values[:, 0], gradients[:, 0]

    def gradients(
        self, images: Tensor, index: Tensor, objectives: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (b, n), k objectives of the logits (b, k) and their gradients (b, k, C, H, W) by the image.

        One forward pass and k vector-Jacobian products each.
        """
        self.forwards[index] += 1
        with torch.enable_grad():
            inputs = images.detach().requires_grad_(True)
            logits = self.classifier(inputs)
            values = objectives(logits)
            parts = values.sum(dim=0).unbind()
            slopes = [_slope(part, inputs, retain=part is not parts[-1]) for part in parts]
        self.vjps[index] += len(slopes)
        return logits.detach(), values.detach(), torch.stack(slopes, dim=1)

    def reached(self, logits: Tensor, index: Tensor) -> Tensor:
        """Whether (b,) logits decide for the target, in full."""
        return self.encoding.reached(logits, self.target[index])

    def region(self, index: Tensor) -> TargetRegion:
        """The target region of some images."""
        return self.encoding.region(self.target[index])

    def bit_region(self, index: Tensor) -> TargetRegion:
        """The bit-by-bit target region of some images."""
        return self.encoding.bit_region(self.target[index])

    def keep(self, index: Tensor, images: Tensor) -> None:
        """Makes images the ones to return."""
        self.result[index] = images

    def observe(
        self,
        step: int | Tensor,
        index: Tensor,
        images: Tensor,
        logits: Tensor,
        jacobian: Tensor | None = None,
        gradient: Tensor | None = None,
    ) -> None:
        """Tells the observer, if there is one; its time is not the attack's."""
        if self.context.observer is None:
            return
        begin = time.perf_counter()
        self.context.observer(Observation(step, index, images, logits, jacobian, gradient))
        self._clock += time.perf_counter() - begin

    def tick(self, index: Tensor) -> Tensor:
        """Shares the time since the last tick among images; returns which (b,) of them are still within the limit."""
        if self.start.is_cuda:
            torch.cuda.synchronize(self.start.device)
        now = time.perf_counter()
        on_processor = index.cpu()
        if len(index):
            self.seconds[on_processor] += (now - self._clock) / len(index)
        self._clock = now
        if self._progress is not None:
            # Finished images may come back for a last search.
            self._finished = max(self._finished, len(self.start) - len(index) - self._waiting)
            self._progress(self._finished, len(self.start))
        if self.time_limit is None:
            return torch.ones_like(index, dtype=torch.bool)
        return (self.seconds[on_processor] <= self.time_limit).to(index.device)

    def continuing(self, index: Tensor, finite: Tensor, *, watch: bool = True) -> Tensor:
        """Which (b,) images go on: those with finite values and time left; the others are noted as ended.

        Without `watch` the time is shared out, but the limit is left to a later call.
        """
        self.end(index[~finite], "not_finite")
        in_time = self.tick(index)
        if not watch:
            return finite
        self.end(index[~in_time & finite], "timed_out")
        return finite & in_time


def _slope(value: Tensor, inputs: Tensor, *, retain: bool) -> Tensor:
    """The gradient of a number by the inputs; zeros where it does not depend on them."""
    if not value.requires_grad:
        return torch.zeros_like(inputs)
    (slope,) = torch.autograd.grad(value, inputs, retain_graph=retain, allow_unused=True)
    return torch.zeros_like(inputs) if slope is None else slope
