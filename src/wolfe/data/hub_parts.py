"""What a study's entry says of a published set's splits; nothing is read here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wolfe.data.hub_sets import HubSet, hub_set
from wolfe.data.source import SPLITS

_PART = re.compile(r"(?P<splits>\w+(\+\w+)*)(\[(?P<start>(\d+%?)?):(?P<stop>(\d+%?)?)\])?")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some images of one or several splits of the hub, after the seed has put them in order.

    Attributes:
        splits: their names on the hub, whose images are one series.
        start: the first image, as "40" or "60%"; empty for the very first.
        stop: the image after the last; empty for all that follow.
    """

    splits: tuple[str, ...]
    start: str = ""
    stop: str = ""

    @property
    def base(self) -> str:
        """The splits as an entry writes them."""
        return "+".join(self.splits)

    def ends(self, images: int) -> tuple[int, int]:
        """The first image and the one after the last in a series of so many."""
        start, stop = (_at(self.start, images, 0), _at(self.stop, images, images))
        return start, max(start, stop)

    def count(self, images: int) -> int:
        """How many images that is in a series of so many."""
        start, stop = self.ends(images)
        return stop - start


def _at(bound: str, images: int, otherwise: int) -> int:
    """The place in a series of so many images that a bound means."""
    if not bound:
        return otherwise
    place = images * int(bound[:-1]) // 100 if bound.endswith("%") else int(bound)
    return min(place, images)


def parts_of(collection: str, splits: Mapping[str, str]) -> dict[str, Part]:
    """What of the hub's splits goes where, from texts like "validation[:2500]" or "train+validation[60%:80%]".

    Args:
        collection: a name of `wolfe.data.hub_sets.HUB_SETS`.
        splits: for train, validation and test what they hold.

    Raises:
        ValueError: one of the three is missing, or a text that cannot be read, or images that would be in two of them.
    """
    known = hub_set(collection)
    if set(splits) != set(SPLITS):
        raise ValueError(f"hub: splits must say what {', '.join(SPLITS)} hold, got {', '.join(splits) or 'nothing'}")
    parts = {name: _part(collection, known, name, splits[name]) for name in SPLITS}
    check_disjoint(parts, {part.base: published(known, part.splits) for part in parts.values()})
    return parts


def _part(collection: str, known: HubSet, name: str, text: Any) -> Part:
    match = _PART.fullmatch(str(text).replace(" ", ""))
    if match is None:
        raise ValueError(f"hub: {name} must look like validation, validation[:2500] or train+test[:60%], got {text!r}")
    part = Part(splits=tuple(match["splits"].split("+")), start=match["start"] or "", stop=match["stop"] or "")
    for split in part.splits:
        if split not in known.counts:
            raise ValueError(f"hub: {collection} has no split {split!r} with labels; it has {', '.join(known.counts)}")
    if len(set(part.splits)) < len(part.splits):
        raise ValueError(f"hub: {name} names a split twice: {text}")
    if part.count(published(known, part.splits)) < 1:
        raise ValueError(f"hub: {name} would be empty: {text} of {published(known, part.splits)} images")
    return part


def check_disjoint(parts: Mapping[str, Part], images: Mapping[str, int]) -> None:
    """Refuses images that would be in two splits.

    Args:
        parts: what train, validation and test hold.
        images: how many there are of each series that parts name.

    Raises:
        ValueError: the message names the two.
    """
    for number, name in enumerate(SPLITS):
        for other in SPLITS[number + 1 :]:
            if _overlap(parts[name], parts[other], images):
                said = [f"{key} ({_text(parts[key])})" for key in (name, other)]
                raise ValueError(f"hub: {said[0]} and {said[1]} would share images")


def _overlap(one: Part, other: Part, images: Mapping[str, int]) -> bool:
    if not set(one.splits) & set(other.splits):
        return False
    if one.base != other.base:
        # Two series have orders of their own, so nothing keeps their images apart.
        return True
    (start, stop), (first, last) = (part.ends(images[part.base]) for part in (one, other))
    return max(start, first) < min(stop, last)


def _text(part: Part) -> str:
    return part.base + (f"[{part.start}:{part.stop}]" if part.start or part.stop else "")


def published(known: HubSet, splits: Sequence[str]) -> int:
    """How many images some splits have together where they are whole."""
    return sum(known.counts[split] for split in splits)


def images_of(entry: Mapping[str, Any], split: str = "test") -> int:
    """How many images a split of a study's entry has where the published set is whole; more than it has if classes go.

    Args:
        entry: of the study, with `collection` and `splits`.
        split: "train", "validation" or "test".
    """
    part = parts_of(entry["collection"], entry["splits"])[split]
    return part.count(published(hub_set(entry["collection"]), part.splits))


def check_size(size: int, shorter_side: int = 0, pad: int = 0, stretch: bool = False) -> None:
    """Refuses lengths to which pictures cannot be brought; see `wolfe.data.hub.build_hub` for what they mean.

    Raises:
        ValueError: the message says what would be right.
    """
    inner = size - 2 * pad
    if pad < 0 or inner < 8 or (shorter_side or inner) < inner:
        raise ValueError(
            f"hub: size must be at least 8 without its padding and shorter_side at least that, got size {size}, "
            f"pad {pad} and shorter_side {shorter_side}"
        )
    if stretch and shorter_side:
        raise ValueError("hub: a picture that is stretched has no shorter_side: leave one of them out")


def check_files(known: HubSet, data_root: str | None, revision: str | None, files: int | None) -> None:
    """Refuses what an entry says of files where the set has none such, or where nothing can be fetched.

    Raises:
        ValueError: the message says what would be right.
    """
    if files is not None and (files < 1 or known.layout != "parquet"):
        raise ValueError(f"hub: files must be at least 1, of a set of parquet files, got {files} of {known.title}")
    if revision is not None and known.origin != "hub":
        raise ValueError(f"hub: {known.title} is not fetched from the hub, so it has no revision: leave it out")
    if data_root is None and known.origin == "folder":
        held = "ImageList, Groundtruth and the pictures" if known.layout == "nus_wide" else "VOCdevkit"
        raise ValueError(
            f"hub: the pictures of {known.title} cannot be fetched: name a folder with {held}, or with parquet files, "
            "as data_root (of this entry, or of the study for all its sets)"
        )
