"""What trained detectors say of images that they have not seen, genuine and adversarial, under every transform."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from wolfe.classifier import Classifier
from wolfe.detection_lines import EXTRA, GENUINE, LEARNT, POOLED, half_and_half
from wolfe.experiments.detection_checks import Attacked, Plan
from wolfe.experiments.detection_images import Images
from wolfe.experiments.detection_networks import logits, scores
from wolfe.experiments.detection_training import Trained
from wolfe.experiments.detection_versions import TRANSFORMS
from wolfe.models.folding import channels_side_by_side
from wolfe.models.storage import load_classifier

_BATCH = 128


@dataclass(frozen=True)
class _Version:
    """Images of one kind that detectors are asked about.

    Attributes:
        columns: what they are: `version`, `table`, `slug`, `learnt`, `transform`, `split`, `adversarial`.
        names: of the images.
        pictures: the images (B, C, H, W) in [0, 1].
        targets: the classes that their attack aimed at; None for genuine ones.
        l2: how far each is from its genuine version.
    """

    columns: dict[str, Any]
    names: list[str]
    pictures: NDArray[np.float32]
    targets: list[int] | None
    l2: list[float]


def judge(
    plan: Plan, images: Images, source: Classifier, trained: Sequence[Trained], batch_size: int = _BATCH
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Chooses a learning rate for each detector and gathers what the chosen ones say.

    The rate is chosen by the validation part. What the paper does is kept beside it: the rate with the best accuracy on
    the test part itself (`selected_on` "test").

    Args:
        plan: the experiment.
        images: its images.
        source: the classifier that was attacked, in evaluation mode.
        trained: all trainings.
        batch_size: images in a forward pass.

    Returns:
        Records, one row for each image version and chosen detector (`detector`, `trained_on`, `selected_on`,
        `version`, `table`, `slug`, `learnt`, `transform`, `split`, `image_id`, `true_label`, `adversarial`,
        `reaches_target` on the attacked classifier after the transform, `l2` to the genuine version before it, and
        `score`, above 0 for "adversarial"); and the trainings, one row each, with accuracies and which were chosen.
    """
    networks = [load_classifier(item.folder, str(source.device)) for item in trained]
    for network in networks:
        channels_side_by_side(network)
    seen = _asked(_versions(plan, images, (LEARNT,)), images, source, networks, batch_size)
    trainings = _trainings(trained, seen)
    chosen = [number for number, is_chosen in enumerate(trainings["chosen_on_validation"]) if is_chosen]
    others = [transform for transform in TRANSFORMS if transform != LEARNT]
    kept = [networks[number] for number in chosen]
    more = _asked(_versions(plan, images, others), images, source, kept, batch_size)
    more = more.rename(columns=dict(enumerate(chosen)))
    frames = [_said(seen, number, item, "validation") for number, item in enumerate(trained) if number in chosen]
    frames += [_said(more, number, trained[number], "validation") for number in chosen]
    own = seen[(seen["split"] == "test") & seen["learnt"]]
    best = [number for number, is_best in enumerate(trainings["chosen_on_test"]) if is_best]
    frames += [_said(own, number, trained[number], "test") for number in best]
    return pd.concat(frames, ignore_index=True), trainings


def _versions(plan: Plan, images: Images, transforms: Sequence[str]) -> Iterator[_Version]:
    """What is asked about: under the transform of the training also the validation part and extra genuine images."""
    for transform in transforms:
        for split in ("test", "validation") if transform == LEARNT else ("test",):
            shared = {"transform": transform, "split": split}
            yield _genuine(images, images.names(split), shared | {"version": GENUINE})
            if transform == LEARNT:
                yield _genuine(images, images.names(split, "extra"), shared | {"version": EXTRA})
            for attack in plan.attacks:
                reached = images.reached(attack.label, split) if attack.learnt or split == "test" else []
                if reached:
                    yield _attacked(attack, reached, shared)


def _genuine(images: Images, names: list[str], columns: dict[str, Any]) -> _Version:
    pictures = images.pictures(names).astype(np.float32) / np.float32(255)
    if names:
        pictures = TRANSFORMS[columns["transform"]](pictures)
    columns |= {"table": "", "slug": "", "learnt": True, "adversarial": 0}
    return _Version(columns, names, pictures, None, [0.0] * len(names))


def _attacked(attack: Attacked, names: list[str], columns: dict[str, Any]) -> _Version:
    records = attack.row.records.set_index("image_id").loc[names]
    place = {"version": attack.label, "table": attack.table, "slug": attack.row.slug, "learnt": attack.learnt}
    pictures = TRANSFORMS[columns["transform"]](attack.images(names))
    targets, l2 = records["target"].astype(int).tolist(), records["l2"].astype(float).tolist()
    return _Version({**columns, **place, "adversarial": 1}, names, pictures, targets, l2)


def _asked(
    versions: Iterator[_Version], images: Images, source: Classifier, networks: Sequence[Classifier], batch_size: int
) -> pd.DataFrame:
    """One line for each image of each version, with a column of scores for each network, named by its number."""
    frames = []
    for version in versions:
        if version.names:
            frame = pd.DataFrame({"image_id": version.names, "true_label": images.labels(version.names)})
            frame = frame.assign(l2=version.l2)
            reaches = _reaches(source, version, batch_size)
            said = {number: scores(network, version.pictures, batch_size) for number, network in enumerate(networks)}
            frames.append(frame.assign(**version.columns, reaches_target=reaches).join(pd.DataFrame(said)))
    return pd.concat(frames, ignore_index=True)


def _reaches(source: Classifier, version: _Version, batch_size: int) -> list[bool]:
    """Whether the attacked classifier still takes each image for the target of its attack."""
    if version.targets is None:
        return [False] * len(version.names)
    parts = torch.from_numpy(version.pictures).split(batch_size)
    found = torch.cat([logits(source, part) for part in parts])
    return [bool(value) for value in source.encoding.reached(found, torch.tensor(version.targets))]


def _trainings(trained: Sequence[Trained], seen: pd.DataFrame) -> pd.DataFrame:
    """One line a training; of those that differ only in the learning rate one is chosen by each part."""
    lines = []
    for number, item in enumerate(trained):
        test = own_kind(seen[seen["split"] == "test"], item.trained_on)
        accuracy = ((test[number] > 0) == (test["adversarial"] == 1)).mean()
        line = {"detector": item.detector, "trained_on": item.trained_on, **item.numbers}
        lines.append(line | {"test_images": len(test), "test_accuracy": float(accuracy)})
    table = pd.DataFrame(lines)
    # Of equal accuracies the lower loss on the validation part decides, then the order in the study.
    for column, order in (("validation", "validation_accuracy"), ("test", "test_accuracy")):
        ranked = table.sort_values([order, "validation_loss"], ascending=[False, True], kind="stable")
        best = ranked.groupby(["detector", "trained_on"], sort=False).head(1).index
        table[f"chosen_on_{column}"] = table.index.isin(best)
    return table


def own_kind(records: pd.DataFrame, trained_on: str) -> pd.DataFrame:
    """The versions of the kinds that a detector was trained on: half and half for one attack, all for the pooled ones.

    Args:
        records: lines with `version`, `learnt` and `image_id`.
        trained_on: "pooled" or the label of an attack.
    """
    if trained_on == POOLED:
        return records[records["learnt"]]
    return half_and_half(records, trained_on)


def _said(seen: pd.DataFrame, number: int, item: Trained, selected_on: str) -> pd.DataFrame:
    """The lines of one detector."""
    named = {"detector": item.detector, "trained_on": item.trained_on, "selected_on": selected_on}
    columns = ["version", "table", "slug", "learnt", "transform", "split", "image_id", "true_label", "adversarial"]
    lines = seen[[*columns, "reaches_target", "l2"]].assign(score=seen[number])
    return pd.concat([pd.DataFrame(named, index=lines.index), lines], axis=1)
