"""Which data sets of the hub are known, and what a study's entry says about one; nothing is read here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wolfe.data.source import SPLITS

_PART = re.compile(r"(?P<split>\w+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A data set of single-label images as the Hugging Face hub holds it.

    Attributes:
        title: its name for a reader.
        repository: owner and name on the hub.
        counts: images of each split that has labels.
        classes: number of classes.
        channels: 1 for grey, 3 for colour.
        image: names that the column of pictures has, in the repository and in copies of it.
        label: the same for the column of classes.
        gated: whether the hub asks for an account that has accepted the terms.
    """

    title: str
    repository: str
    counts: Mapping[str, int]
    classes: int
    channels: int = 3
    image: tuple[str, ...] = ("image", "img")
    label: tuple[str, ...] = ("label",)
    gated: bool = False


HUB_SETS: dict[str, HubSet] = {
    "imagenet": HubSet(
        title="ImageNet (ILSVRC 2012)",
        repository="ILSVRC/imagenet-1k",
        counts={"train": 1_281_167, "validation": 50_000},
        classes=1000,
        gated=True,
    ),
    "cifar10": HubSet(
        title="CIFAR-10", repository="uoft-cs/cifar10", counts={"train": 50_000, "test": 10_000}, classes=10
    ),
    "mnist": HubSet(
        title="MNIST", repository="ylecun/mnist", counts={"train": 60_000, "test": 10_000}, classes=10, channels=1
    ),
    "gtsrb": HubSet(title="GTSRB", repository="tanganke/gtsrb", counts={"train": 26_640, "test": 12_630}, classes=43),
}
"""What an entry calls a data set, to where it is and what it holds. A set is added by its line here."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some images of a split of the hub, after the seed has put them in order.

    Attributes:
        split: its name on the hub.
        start: the first image.
        stop: the image after the last; None for all that follow.
    """

    split: str
    start: int = field(default=0)
    stop: int | None = None

    def count(self, images: int) -> int:
        """How many images that is of a split that has so many."""
        return max(0, min(images, images if self.stop is None else self.stop) - self.start)


def hub_set(collection: Any) -> HubSet:
    """A data set by the name that an entry gives.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if collection not in HUB_SETS:
        raise ValueError(f"hub: there is no collection {collection!r}; there are {', '.join(HUB_SETS)}")
    return HUB_SETS[collection]


def parts_of(collection: str, splits: Mapping[str, str]) -> dict[str, Part]:
    """What of the hub's splits goes where, from texts like "validation[:2500]".

    Args:
        collection: a name of `HUB_SETS`.
        splits: for train, validation and test what they hold.

    Raises:
        ValueError: one of the three is missing, or a text that cannot be read, or images that would be in two of them.
    """
    if set(splits) != set(SPLITS):
        raise ValueError(f"hub: splits must say what {', '.join(SPLITS)} hold, got {', '.join(splits) or 'nothing'}")
    parts = {name: _part(collection, name, splits[name]) for name in SPLITS}
    for number, name in enumerate(SPLITS):
        for other in SPLITS[number + 1 :]:
            if _overlap(parts[name], parts[other]):
                raise ValueError(f"hub: {name} ({splits[name]}) and {other} ({splits[other]}) would share images")
    return parts


def _part(collection: str, name: str, text: Any) -> Part:
    match = _PART.fullmatch(str(text).replace(" ", ""))
    if match is None:
        raise ValueError(f"hub: {name} must look like validation or validation[:2500], got {text!r}")
    known = hub_set(collection).counts
    if match["split"] not in known:
        raise ValueError(f"hub: {collection} has no split {match['split']!r} with labels; it has {', '.join(known)}")
    part = Part(
        split=match["split"], start=int(match["start"] or 0), stop=int(match["stop"]) if match["stop"] else None
    )
    if part.count(known[part.split]) < 1:
        raise ValueError(f"hub: {name} would be empty: {text} of {known[part.split]} images")
    return part


def _overlap(one: Part, other: Part) -> bool:
    if one.split != other.split:
        return False
    ends = [part.stop if part.stop is not None else float("inf") for part in (one, other)]
    return max(one.start, other.start) < min(ends)


def images_of(entry: Mapping[str, Any], split: str = "test") -> int:
    """How many images a split of a study's entry has where the published set is whole."""
    part = parts_of(entry["collection"], entry["splits"])[split]
    return part.count(hub_set(entry["collection"]).counts[part.split])
