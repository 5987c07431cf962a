"""What every attack shares: the checks, the counting, the clock and the verdict. Subclasses write the mathematics."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from wolfe.attacks.problem import Observation, Problem
from wolfe.classifier import Classifier, ready_for_attack
from wolfe.encoding import Encoding
from wolfe.label_graph import LabelGraph

# Differences this small come from resampling or from a trip through another number type, not from another range.
_RANGE_NOISE = 1e-4
# The largest number of a study: beyond it whole numbers have gaps.
_LARGEST = 2**53


class Status(StrEnum):
    """How an attack ended on an image."""

    FOUND = "found"
    EXHAUSTED = "exhausted"
    INFEASIBLE = "infeasible"
    NOT_FINITE = "not_finite"
    TIMED_OUT = "timed_out"
    ALREADY_THERE = "already_there"

    @property
    def meaning(self) -> str:
        """One sentence for a reader."""
        return _MEANINGS[self]


_MEANINGS = {
    Status.FOUND: "the returned image reaches the target",
    Status.EXHAUSTED: "the attack ended without returning an image that reaches the target",
    Status.INFEASIBLE: "to first order no perturbation of a usable size reaches the target",
    Status.NOT_FINITE: "the image, or what the network returned for it, holds NaN or infinity",
    Status.TIMED_OUT: "the time limit for an image was reached",
    Status.ALREADY_THERE: "the image reached the target before it was changed",
}


@dataclass(frozen=True)
class Context:
    """What some attacks need beside images and targets.

    Attributes:
        image_ids: one name an image, for draws that belong to an image.
        seed: of all random draws.
        labels: the true labels, for untargeted attacks.
        reference_logits: (B, n), a point of logit space for every image's target (LOTS); NaN rows where there is none.
        observer: called at every step with an :class:`Observation` of the images still in work.
        label_graph: which labels imply which, for data sets whose labels have a hierarchy (SemA-ML).
    """

    image_ids: list[str] | None = None
    seed: int = 0
    labels: Tensor | None = None
    reference_logits: Tensor | None = None
    observer: Callable[[Observation], None] | None = None
    label_graph: LabelGraph | None = None

    def part(self, place: slice) -> Context:
        """The context of some of the images."""
        observer = self.observer
        return replace(
            self,
            image_ids=None if self.image_ids is None else self.image_ids[place],
            labels=None if self.labels is None else self.labels[place],
            reference_logits=None if self.reference_logits is None else self.reference_logits[place],
            observer=None if observer is None else lambda seen: observer(replace(seen, index=seen.index + place.start)),
        )


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to a batch; every field has one entry an image.

    Attributes:
        adversarials: (B, C, H, W) in [0, 1]; where the attack failed, its last or best try.
        success: (B,) bool: a fresh forward pass on `adversarials` decides for the target, in full.
        iterations: (B,) int64, as the attack's paper counts them; 0 where it failed at once.
        first_success: (B,) int64: the step, counted from 1, at which the target was first reached; 0 for never.
        forwards, vjps, jvps: (B,) int64: forward passes, vector-Jacobian and Jacobian-vector products.
        seconds: (B,) float64: wall time of the batch while the image was in it, shared among the images in it.
        gap: (B,) float64: by what share of its length the linearisation around the last perturbation but one would
            have it shorter, the box included; NaN where nothing tells. Near 0 the image is a local optimum.
        status: how it ended, a :class:`Status` an image.
    """

    adversarials: Tensor
    success: Tensor
    iterations: Tensor
    first_success: Tensor
    forwards: Tensor
    vjps: Tensor
    jvps: Tensor
    seconds: Tensor
    gap: Tensor
    status: list[Status]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A targeted attack; its fields are its parameters.

    Attributes:
        time_limit: seconds an image may take; None for no limit.
        refills: whether images that wait take the places of those that are finished; without, batch follows batch.
    """

    time_limit: float | None = field(default=None)
    refills: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.time_limit is not None:
            require_positive(self, "time_limit")
        for part in fields(self):
            value = getattr(self, part.name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if part.type in ("int", "int | None") and not whole and value is not None:
                raise ValueError(f"{type(self).__name__}: {part.name} must be a whole number, got {value!r}")

    @property
    def requires(self) -> tuple[str, ...]:
        """Names of the fields of :class:`Context` that this attack cannot do without."""
        return ()

    def serves(self, encoding: Encoding) -> bool:  # noqa: ARG002 (attacks that serve only some look at it)
        """Whether the attack can work on an encoding; most can on all."""
        return True

    @property
    def keeps_range(self) -> bool:
        """Whether the returned images lie in [0, 1]; only options that repeat released code say no."""
        return True

    def __call__(
        self,
        classifier: Classifier,
        images: Tensor,
        targets: Tensor | None,
        *,
        context: Context | None = None,
        progress: Callable[[int, int], None] | None = None,
        batch_size: int | None = None,
    ) -> AttackResult:
        """Attacks images.

        The classifier is run in evaluation mode with frozen parameters and left as it was. Images on another
        device are moved to the classifier's.

        Args:
            classifier: the classifier to mislead.
            images: (B, C, H, W), float, in [0, 1].
            targets: class indices (B,), or 0/1 label vectors (B, n).
            context: what some attacks need beside.
            progress: called as `progress(finished images, images)` now and then, and at the end.
            batch_size: images in work at a time, None for all: passes through the classifier take memory for so many.
                A few copies of all images are kept beside.

        Returns:
            The adversarial images, the verdict and the costs.

        Raises:
            TypeError: `images` is no float tensor, or not of the classifier's type.
            ValueError: images or targets of a wrong shape or range, NaN in the images, or a context that lacks
                what the attack requires, an encoding it does not serve, or a batch size below 1.
        """
        context = context or Context()
        if not self.serves(classifier.encoding):
            raise ValueError(
                f"{type(self).__name__} does not work on the encoding {type(classifier.encoding).__name__}"
            )
        if targets is None:
            raise ValueError(f"{type(self).__name__} is a targeted attack: give targets")
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise ValueError(f"batch_size must be a whole number, at least 1, got {batch_size!r}")
        self._check_context(context)
        images = checked_images(images, classifier)
        targets = classifier.encoding.check_targets(targets, len(images)).to(classifier.device)
        with ready_for_attack(classifier):
            if self.refills or batch_size is None or len(images) <= batch_size:
                return self._attack(classifier, images, targets, context, progress, batch_size)
            parts = []
            for begin in range(0, len(images), batch_size):
                place = slice(begin, begin + batch_size)
                told = _further(progress, begin, len(images))
                parts.append(
                    self._attack(classifier, images[place], targets[place], context.part(place), told, batch_size)
                )
            return _joined(parts)

    def _attack(
        self,
        classifier: Classifier,
        images: Tensor,
        targets: Tensor,
        context: Context,
        progress: Callable[[int, int], None] | None,
        batch_size: int | None,
    ) -> AttackResult:
        """Attacks images that are checked, with a classifier that is ready."""
        problem = Problem(classifier, images, targets, context, self.time_limit, progress, batch_size)
        problem.begin()
        if len(images):
            self._run(problem)
        problem.tick(problem.unfinished())
        if progress is not None:
            progress(len(images), len(images))
        return self._verdict(problem)

    @abstractmethod
    def _run(self, problem: Problem) -> None:
        """Attacks the images that are not finished and hands the results to the problem."""

    def _check_context(self, context: Context) -> None:
        name = type(self).__name__
        for needed in self.requires:
            if getattr(context, needed) is None:
                raise ValueError(f"{name} needs context.{needed}: pass context=Context({needed}=...)")

    def _verdict(self, problem: Problem) -> AttackResult:
        """The result, judged by a forward pass of its own on the images that are returned."""
        adversarials = problem.result
        if self.keeps_range:
            adversarials = adversarials.clamp(0, 1)
        success = torch.zeros(len(adversarials), dtype=torch.bool, device=adversarials.device)
        if len(adversarials):
            success = problem.encoding.reached(problem.unbooked_logits(adversarials), problem.target)
        status = []
        for image, reached in enumerate(success.tolist()):
            ended = Status(problem.ended.get(image, Status.EXHAUSTED))
            if reached and ended is not Status.ALREADY_THERE:
                ended = Status.FOUND
            status.append(ended)
        return AttackResult(
            adversarials,
            success,
            problem.iterations,
            problem.first_success,
            problem.forwards,
            problem.vjps,
            problem.jvps,
            problem.seconds,
            problem.gap,
            status,
        )


def _joined(parts: list[AttackResult]) -> AttackResult:
    """The results of all batches as one."""
    names = [part.name for part in fields(AttackResult) if part.name != "status"]
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return AttackResult(**tensors, status=[status for part in parts for status in part.status])


def _further(progress: Callable[[int, int], None] | None, begin: int, images: int) -> Callable[[int, int], None] | None:
    """Tells of a batch that begins so far into all images."""
    return None if progress is None else lambda finished, _: progress(begin + finished, images)


def require_positive(attack: Any, *names: str) -> None:
    """Checks that parameters are above 0 and at most 2^53.

    Raises:
        ValueError: naming the attack, the parameter and its value.
    """
    for name in names:
        value = _number(attack, name)
        if not value > 0:
            raise ValueError(f"{type(attack).__name__}: {name} must be > 0, got {value!r}")


def require_at_least_zero(attack: Any, *names: str) -> None:
    """Checks that parameters are 0 or above and at most 2^53.

    Raises:
        ValueError: naming the attack, the parameter and its value.
    """
    for name in names:
        value = _number(attack, name)
        if value < 0:
            raise ValueError(f"{type(attack).__name__}: {name} must be a number >= 0, got {value!r}")


def _number(attack: Any, name: str) -> float:
    value = getattr(attack, name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{type(attack).__name__}: {name} must be a finite number, got {value!r}")
    if value > _LARGEST:
        raise ValueError(f"{type(attack).__name__}: {name} must be at most 2^53, got {value!r}")
    return value


def require_choice(attack: Any, name: str, *allowed: str) -> None:
    """Checks that a parameter is one of a few words.

    Raises:
        ValueError: naming the attack, the parameter and what is allowed.
    """
    value = getattr(attack, name)
    if value not in allowed:
        raise ValueError(f"{type(attack).__name__}: {name} must be one of {', '.join(allowed)}, got {value!r}")


def checked_images(images: Tensor, classifier: Classifier) -> Tensor:
    """Images (B, C, H, W) on the classifier's device, within [0, 1].

    Raises:
        TypeError: they are no float tensor, or not of the classifier's type.
        ValueError: they have another shape or range, or are not finite.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a float tensor with values in [0, 1], got {kind} (uint8: divide by 255)")
    if images.dtype != classifier.mean.dtype:
        raise TypeError(f"images are {images.dtype}, the classifier is {classifier.mean.dtype}: convert one of them")
    if images.ndim != 4:
        raise ValueError(f"images must have the shape (batch, channels, height, width), got {tuple(images.shape)}")
    images = images.detach().to(classifier.device)
    bad = (~images.flatten(1).isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(f"images hold NaN or infinity at batch positions {bad[:8]}: leave these images out")
    if images.numel() == 0:
        return images
    low, high = float(images.min()), float(images.max())
    if low < -_RANGE_NOISE or high > 1 + _RANGE_NOISE:
        raise ValueError(
            f"images must lie in [0, 1], got {low:.4g} to {high:.4g}: divide grey levels by 255, and leave "
            "normalisation to Classifier(mean=..., std=...)"
        )
    if low < 0 or high > 1:
        warnings.warn(f"images reach {low:.3g} to {high:.3g}; clipped to [0, 1]", stacklevel=3)
        images = images.clamp(0, 1)
    return images
