"""Attacks with images of which some hold NaN or infinity: these are marked, the others are attacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from wolfe.attacks import Attack, AttackResult, Context
from wolfe.attacks.base import Status
from wolfe.attacks.problem import Observation
from wolfe.classifier import Classifier


def attack_finite(
    attack: Attack,
    classifier: Classifier,
    images: Tensor,
    targets: Tensor,
    context: Context,
    progress: Callable[[int, int], None] | None,
    batch_size: int | None,
) -> AttackResult:
    """Attacks the images that are finite; the others come back as they are, with the status `not_finite`.

    Args:
        attack: the attack.
        classifier: the classifier to mislead.
        images: (B, C, H, W) in [0, 1], or not finite.
        targets: class indices (B,), or 0/1 label vectors (B, n).
        context: for all images; observers are told of positions among all of them.
        progress: as `Attack` calls it.
        batch_size: images in work at a time, None for all.
    """
    finite = images.flatten(1).isfinite().all(dim=1)
    if bool(finite.all()):
        return attack(classifier, images, targets, context=context, progress=progress, batch_size=batch_size)
    kept = finite.nonzero()[:, 0]
    result = attack(
        classifier, images[kept], targets[kept], context=_of(context, kept), progress=progress, batch_size=batch_size
    )
    return _spread(result, images, kept)


def _of(context: Context, kept: Tensor) -> Context:
    """The context of the images at some positions."""
    observer = context.observer

    def told(seen: Observation) -> None:
        if observer is not None:
            observer(replace(seen, index=kept.to(seen.index.device)[seen.index]))

    return replace(
        context,
        image_ids=None if context.image_ids is None else [context.image_ids[position] for position in kept.tolist()],
        labels=_at(context.labels, kept),
        reference_logits=_at(context.reference_logits, kept),
        observer=None if observer is None else told,
    )


def _at(rows: Tensor | None, kept: Tensor) -> Tensor | None:
    return None if rows is None else rows[kept.to(rows.device)]


def _spread(result: AttackResult, images: Tensor, kept: Tensor) -> AttackResult:
    """A result of some images as one of all: of the others the images themselves, no costs and no gap."""
    tensors = {}
    for name in (part.name for part in fields(AttackResult) if part.name != "status"):
        found = getattr(result, name)
        empty = torch.full((len(images), *found.shape[1:]), torch.nan if name == "gap" else 0, dtype=found.dtype)
        every = images.to(found) if name == "adversarials" else empty.to(found.device)
        tensors[name] = every.index_copy(0, kept.to(found.device), found)
    status = dict(zip(kept.tolist(), result.status, strict=True))
    return AttackResult(**tensors, status=[status.get(image, Status.NOT_FINITE) for image in range(len(images))])
