"""Reference logits for LOTS: the average logits of training images that have the target as their label."""

from __future__ import annotations

import torch
from torch import Tensor

from wolfe.classifier import Classifier
from wolfe.data.image_set import ImageSet
from wolfe.models.portions import Portions
from wolfe.seeding import numpy_generator

_CLASS_SAMPLES, _VECTOR_SAMPLES = 50, 20


class References:
    """Average logits by target, worked out once each.

    JMA paper, Section VI-B: 50 random images of the target class, or 20 of the target label vector; all where there
    are fewer.

    Args:
        classifier: whose logits.
        training: the training split.
        seed: the study's; the draw depends on the target alone.
        samples: how many images; None for the paper's numbers.
    """

    def __init__(self, classifier: Classifier, training: ImageSet, seed: int, samples: int | None = None) -> None:
        self._classifier = classifier
        self._training = training
        self._seed = seed
        usual = _VECTOR_SAMPLES if classifier.encoding.multi_label else _CLASS_SAMPLES
        self._samples = samples or usual
        self._portions = Portions()
        self._known: dict[str, Tensor] = {}

    def __call__(self, targets: Tensor) -> Tensor:
        """Reference logits (B, n) of targets (B,) or (B, n); NaN where no training image has that label."""
        return torch.stack([self._reference(target) for target in targets.cpu()])

    def _reference(self, target: Tensor) -> Tensor:
        name = str(target.tolist())
        if name not in self._known:
            same = self._training.labels == target
            index = (same.all(dim=1) if same.ndim == 2 else same).nonzero()[:, 0].numpy()
            chosen = numpy_generator(self._seed, "reference", name).permutation(index)[: self._samples]
            self._known[name] = self._average(chosen.tolist())
        return self._known[name]

    def _average(self, index: list[int]) -> Tensor:
        if not index:
            return torch.full((self._classifier.encoding.size,), torch.nan)
        with torch.no_grad():
            logits = self._portions.joined(self._logits, self._training.images(index))
        return logits.mean(dim=0).cpu()

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self._classifier(images.to(self._classifier.device))
        return logits
