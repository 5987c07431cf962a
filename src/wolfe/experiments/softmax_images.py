"""Which images the experiment on softmax attacks, and towards which classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wolfe.attacks.multi_class_optimised import second_class
from wolfe.classifier import Classifier
from wolfe.data.image_set import ImageSet
from wolfe.experiments.targets import RULES, Choice
from wolfe.models.portions import Portions
from wolfe.seeding import numpy_generator

_BATCH = 128


@dataclass(frozen=True)
class Examples:
    """The images that are attacked, and towards what.

    Attributes:
        ids: their names.
        images: (N, C, H, W) in [0, 1].
        labels: their true classes (N,).
        targets: the classes c (N,).
        seconds: the classes d (N,) of examples with two classes.
    """

    ids: list[str]
    images: Tensor
    labels: Tensor
    targets: Tensor
    seconds: Tensor

    def parts(self, size: int) -> Iterator[Examples]:
        """These examples, so many at a time."""
        for begin in range(0, len(self.ids), size):
            part = slice(begin, begin + size)
            yield Examples(self.ids[part], self.images[part], self.labels[part], self.targets[part], self.seconds[part])


def chosen_examples(
    classifiers: Mapping[str, Classifier], split: ImageSet, dataset: str, wanted: int, seed: int
) -> Examples:
    """The first images in the seed's order that all classifiers get right, with classes drawn for each.

    Raises:
        ValueError: there are too few.
    """
    positions: list[int] = []
    for position in _right(classifiers, split, numpy_generator(seed, "test images", dataset).permutation(len(split))):
        positions.append(position)
        if len(positions) == wanted:
            break
    if len(positions) < wanted:
        raise ValueError(
            f"only {len(positions)} of {len(split)} test images of {dataset} are classified correctly by all of "
            f"{', '.join(classifiers)}, {wanted} asked for: lower 'images' or train the models further"
        )
    ids, labels = [split.ids[position] for position in positions], split.labels[positions]
    classes = len(split.class_names)
    targets = [_target(label, classes, seed, name) for label, name in zip(labels, ids, strict=True)]
    seconds = [
        second_class(seed, name, target, int(label), classes)
        for name, target, label in zip(ids, targets, labels, strict=True)
    ]
    return Examples(ids, split.images(positions), labels, torch.tensor(targets), torch.tensor(seconds))


def _right(classifiers: Mapping[str, Classifier], split: ImageSet, order: NDArray[np.int64]) -> Iterator[int]:
    """Positions, in an order, of the images that all classifiers get right."""
    portions = Portions()
    for begin in range(0, len(order), _BATCH):
        part = order[begin : begin + _BATCH]
        images, right = split.images(part), torch.ones(len(part), dtype=torch.bool)
        with torch.no_grad():
            for classifier in classifiers.values():
                decided = portions.joined(classifier.decide, images.to(classifier.device)).cpu()
                right &= decided == split.labels[part]
        yield from part[right.numpy()].tolist()


def _target(label: Tensor, classes: int, seed: int, image_id: str) -> int:
    """The class that the rule `other_class` gives an image in a table of attacks too."""
    generator = numpy_generator(seed, "target", "other_class", "", image_id)
    chosen = RULES["other_class"](Choice(label, label, classes, torch.empty(0), 0, generator))
    assert isinstance(chosen, int)
    return chosen
