"""What the embedded sources hold, known without building them; a test keeps it true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CLASSES = {"digits": 10, "sequences": 225}
# Channels of the images, and their side unless the entry says otherwise.
_IMAGE_SHAPES = {"digits": (1, 32), "scenes": (3, 64), "sequences": (1, 32)}
_TEST_IMAGES = {"digits": 360, "scenes": 1000, "sequences": 1125}


def is_multi_label(dataset: Mapping[str, Any]) -> bool:
    """Whether the pictures of a study's data set have any number of labels."""
    return dataset["source"] == "scenes"


def classes_of(dataset: Mapping[str, Any]) -> int:
    """How many classes or labels a study's data set has."""
    if is_multi_label(dataset):
        each = 13 if dataset.get("hierarchy", False) else 10
        return each * int(dataset.get("colours", 2))
    return _CLASSES[dataset["source"]]


def images_to_attack(dataset: Mapping[str, Any]) -> int:
    """How many test images a study's data set has."""
    return int(dataset.get("test", _TEST_IMAGES[dataset["source"]]))


def image_shape(dataset: Mapping[str, Any]) -> tuple[int, int]:
    """Channels and side of a study's data set's images."""
    channels, usual = _IMAGE_SHAPES[dataset["source"]]
    return channels, dataset.get("size", usual)
