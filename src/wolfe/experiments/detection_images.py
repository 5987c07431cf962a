"""The images of a detection experiment: which is in which part, and what detectors learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wolfe.data.image_set import ImageSet, open_split
from wolfe.detection_lines import POOLED
from wolfe.experiments.detection_checks import Attacked, Plan
from wolfe.experiments.detection_split import PARTS, deal, extra_sizes, split_images
from wolfe.experiments.detection_training import Lesson
from wolfe.experiments.detection_versions import Stored, grey_levels, stored
from wolfe.seeding import numpy_generator, seed_for

_EXTRA_SPLITS = ("test", "validation")
"""Where extra genuine images come from. Pictures of one split may have something in common, so those of the attacked
images' own split that no attack was given come first: otherwise a detector could learn which split a picture is of."""


@dataclass(frozen=True)
class Images:
    """All images of an experiment.

    Attributes:
        listing: one line a genuine image, `image_id`, `true_label`, `split` (one of `PARTS`) and `origin` ("attacked"
            or "extra").
        genuine: these images (N, C, H, W), as bytes.
        attacked: by label of an attack to learn from, its images (B, C, H, W) as bytes, for `successes`.
        successes: by label of any attack, the names of the images that reached their target, in the listing's order.
    """

    listing: pd.DataFrame
    genuine: NDArray[np.uint8]
    attacked: dict[str, NDArray[np.uint8]]
    successes: dict[str, list[str]]

    def names(self, part: str, origin: str = "attacked") -> list[str]:
        """Names of the genuine images of a part."""
        chosen = (self.listing["split"] == part) & (self.listing["origin"] == origin)
        return [str(name) for name in self.listing.loc[chosen, "image_id"]]

    def reached(self, label: str, part: str) -> list[str]:
        """Names of the images of a part whose attack reached its target."""
        inside = set(self.names(part))
        return [name for name in self.successes[label] if name in inside]

    def pictures(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Genuine images (B, C, H, W) by name."""
        places = {str(name): place for place, name in enumerate(self.listing["image_id"])}
        return self.genuine[[places[name] for name in names]]

    def labels(self, names: Sequence[str]) -> list[int]:
        """True classes by name."""
        known = dict(zip(self.listing["image_id"], self.listing["true_label"], strict=True))
        return [int(known[name]) for name in names]

    def lesson(self, name: str) -> Lesson:
        """What a detector learns from and is chosen by: all attacks together ("pooled"), or one attack by its label."""
        return Lesson(name, *(self._shown(name, part) for part in PARTS[:2]))

    def _shown(self, name: str, part: str) -> Stored:
        if name == POOLED:
            genuine = [self.pictures(self.names(part, origin)) for origin in ("attacked", "extra")]
            return stored(genuine, [self._adversarial(label, part) for label in self.attacked])
        return stored([self.pictures(self.reached(name, part))], [self._adversarial(name, part)])

    def _adversarial(self, label: str, part: str) -> NDArray[np.uint8]:
        inside = set(self.names(part))
        return self.attacked[label][[name in inside for name in self.successes[label]]]

    def counts(self) -> dict[str, Any]:
        """How many images each part has, and how many of them each attack has succeeded on."""
        sizes = {part: {origin: len(self.names(part, origin)) for origin in ("attacked", "extra")} for part in PARTS}
        reached = {label: {part: len(self.reached(label, part)) for part in PARTS} for label in self.successes}
        return {"images": sizes, "successes": reached}


def read_images(plan: Plan, seed: int) -> Images:
    """Splits the attacked images and reads all that detectors learn from.

    Args:
        plan: the experiment.
        seed: the study's.

    Raises:
        ValueError: images are missing from the data set or too few for a split, or an attack has no success in a part.
    """
    splits = {name: open_split(plan.data, name) for name in _EXTRA_SPLITS}
    first = plan.learnt[0].row.records
    names, own = [str(name) for name in first["image_id"]], seed_for(seed, "detection", plan.name)
    missing = sorted(set(names) - set(splits["test"].ids))
    if missing:
        raise ValueError(f"{plan.learnt[0].row.folder} names images that {plan.data} lacks, e.g. {missing[0]}")
    tested = {str(name) for attack in plan.attacks if not attack.learnt for name in attack.row.records["image_id"]}
    listing = split_images(names, first["true_label"].tolist(), tested, plan.test_share, plan.validation_share, own)
    parts = dict(zip(listing["image_id"], listing["split"], strict=True))
    successes = {}
    for attack in plan.attacks:
        reached = attack.successes()
        successes[attack.label] = [name for name in names if name in reached]
        _check_successes(attack, [parts[name] for name in successes[attack.label]])
    extra = _extra(plan, splits, parts, successes, own)
    listing = pd.concat([listing.assign(origin="attacked"), extra], ignore_index=True)
    genuine = np.concatenate(list(_genuine(splits, listing)))
    attacked = {attack.label: grey_levels(attack.images(successes[attack.label])) for attack in plan.learnt}
    return Images(listing, genuine, attacked, successes)


def _check_successes(attack: Attacked, parts: Sequence[str]) -> None:
    for part in PARTS if attack.learnt else ():
        if part not in parts:
            raise ValueError(
                f"{attack.row.folder} reached its target on {len(parts)} images, none of them in the {part} part: "
                "attack more images, or attack them harder"
            )


def _extra(
    plan: Plan, splits: dict[str, ImageSet], parts: dict[str, str], successes: dict[str, list[str]], seed: int
) -> pd.DataFrame:
    """Genuine images that no attack was given, so that genuine and adversarial ones are as many in each part."""
    pool: list[tuple[str, int]] = []
    for name, images in splits.items():
        order = numpy_generator(seed, "extra genuine images", name).permutation(len(images)).tolist()
        free = [place for place in order if images.ids[place] not in parts]
        pool += [(images.ids[place], int(images.labels[place])) for place in free]
    reached = [parts[name] for attack in plan.learnt for name in successes[attack.label]]
    adversarial = {part: reached.count(part) for part in PARTS}
    genuine = {part: list(parts.values()).count(part) for part in PARTS}
    sizes = extra_sizes(adversarial, genuine, len(pool))
    chosen = pd.DataFrame(pool[: sum(sizes.values())], columns=["image_id", "true_label"])
    split = np.empty(len(chosen), dtype=object)
    for part, indices in deal(chosen["true_label"].to_numpy(), sizes, seed_for(seed, "extra")).items():
        split[indices] = part
    return chosen.assign(split=split, origin="extra")


def _genuine(splits: dict[str, ImageSet], listing: pd.DataFrame) -> Iterator[NDArray[np.uint8]]:
    """The genuine images of the listing, one by one (1, C, H, W): floats of all would take four times the memory."""
    places = {name: (images, place) for images in splits.values() for place, name in enumerate(images.ids)}
    for name in listing["image_id"]:
        images, place = places[str(name)]
        yield grey_levels(images.images([place]).numpy())
