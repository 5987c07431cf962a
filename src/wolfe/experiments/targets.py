"""Target selection: which test images are attacked, and towards what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wolfe.classifier import Classifier
from wolfe.data.image_set import ImageSet, open_split
from wolfe.files import atomic_path
from wolfe.models.portions import Portions
from wolfe.models.storage import DESCRIPTION, WEIGHTS, load_classifier
from wolfe.provenance import begin_run, beside, check_written, checksums, device_name
from wolfe.reading.tables import read_table
from wolfe.seeding import numpy_generator

_BATCH = 128


@dataclass(frozen=True)
class Choice:
    """What a target rule may look at for one image.

    Attributes:
        label: the true label: a class index () or a 0/1 vector (n,).
        present: what the target of a label vector starts from (n,): the true labels, or those predicted where images
            need not be classified correctly.
        classes: the number of classes; 0 for label vectors.
        known: the different label vectors (k, n) of the training set; empty unless the rule asks for them.
        bits: how many bits to flip, from the study.
        generator: of this image's draws.
    """

    label: Tensor
    present: Tensor
    classes: int
    known: Tensor
    bits: int
    generator: np.random.Generator


def other_class(choice: Choice) -> int:
    """Another class than the true one, each as likely as the next."""
    return int((int(choice.label) + 1 + choice.generator.integers(choice.classes - 1)) % choice.classes)


def training_labels(choice: Choice) -> list[int]:
    """A label vector of the training set, other than the present one.

    Raises:
        ValueError: there is no other.
    """
    others = choice.known[(choice.known != choice.present).any(dim=1)]
    if len(others) == 0:
        raise ValueError("target rule 'training_labels' found no label vector in the training set but the present one")
    return _integers(others[choice.generator.integers(len(others))])


def flip_bits(choice: Choice) -> list[int]:
    """The present label vector with `bits` of its entries flipped, drawn without replacement.

    Raises:
        ValueError: `bits` is below 1 or above the number of labels.
    """
    labels = len(choice.present)
    if not 1 <= choice.bits <= labels:
        raise ValueError(f"target rule 'flip_bits': bits must be 1 to {labels} (the labels), got {choice.bits}")
    target = choice.present.clone()
    chosen = torch.from_numpy(choice.generator.permutation(labels)[: choice.bits])
    target[chosen] = 1 - target[chosen]
    return _integers(target)


def all_off(choice: Choice) -> list[int]:
    """No label at all."""
    return [0] * len(choice.present)


RULES: dict[str, Callable[[Choice], int | list[int]]] = {
    "other_class": other_class,
    "training_labels": training_labels,
    "flip_bits": flip_bits,
    "all_off": all_off,
}


def write_targets(model: Path, data: Path, rule: dict[str, Any], out: Path, seed: int, device: str) -> None:
    """Chooses test images and a target for each, and writes them as parquet.

    Images are taken in an order drawn from the seed, the first `images` that qualify: correctly classified ones
    (in full, for label vectors), unless `only_correct` is false; then targets start from the prediction, and images
    that are at their target already are left out. The draw of a target depends on the image alone.

    Args:
        model: folder of a trained model.
        data: folder of its data set.
        rule: {"rule": one of RULES, "images": 32, "only_correct": True, "bits": 10 for flip_bits}.
        out: the parquet file: image_id, true_label, prediction, target. Its run file goes beside it.
        seed: the study's.
        device: where the classifier runs.

    Raises:
        ValueError: an unknown rule, or fewer images that qualify than asked for.
    """
    name = str(rule["rule"])
    if name not in RULES:
        raise ValueError(f"unknown target rule {name!r}: {', '.join(RULES)}")
    run = begin_run("targets", rule, [Path(model) / file for file in (WEIGHTS, DESCRIPTION)], data, seed)
    classifier = load_classifier(model, device)
    split = open_split(data, "test")
    if classifier.encoding.multi_label == (name == "other_class"):
        kind = "label vectors" if classifier.encoding.multi_label else "class indices"
        raise ValueError(f"target rule {name!r} does not fit {model.name}, whose labels are {kind}")
    known = open_split(data, "train").labels.unique(dim=0) if name == "training_labels" else split.labels[:0]
    wanted = int(rule.get("images", len(split)))
    rows = list(islice(_targets(classifier, split, known, rule, data.name, seed), wanted))
    if len(rows) < wanted:
        raise ValueError(
            f"only {len(rows)} of {len(split)} test images of {data.name} qualify for {model.name} (classified "
            f"correctly unless any will do, and not at their target), {wanted} asked for: lower 'images' or train "
            "the model further"
        )
    beside(out).unlink(missing_ok=True)
    with atomic_path(out) as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    device_used = device_name(classifier.device)
    run.write(beside(out), checksums([out]), ["wolfe.experiments.targets"], device=device_used)


def read_targets(path: Path) -> pd.DataFrame:
    """Reads what `write_targets` wrote.

    Raises:
        ValueError: the file is missing, damaged or of another kind.
    """
    check_written(path)
    try:
        targets = read_table(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as parquet ({error}): delete it and run again") from error
    missing = [name for name in ("image_id", "true_label", "target") if name not in targets]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}: it is no file of targets")
    try:
        shapes = {np.asarray(list(targets[name]), dtype=np.int64).shape for name in ("true_label", "target")}
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} holds labels that are no whole numbers ({error})") from error
    if len(shapes) > 1:
        raise ValueError(f"{path} holds labels and targets of different lengths")
    return targets


def _targets(
    classifier: Classifier, split: ImageSet, known: Tensor, rule: dict[str, Any], data: str, seed: int
) -> Iterator[dict[str, Any]]:
    """The images that qualify, each with its target, in the seed's order."""
    name, only_correct = rule["rule"], bool(rule.get("only_correct", True))
    for position, prediction in _candidates(classifier, split, data, seed, only_correct):
        choice = Choice(
            label=split.labels[position],
            present=split.labels[position] if only_correct else prediction,
            classes=getattr(classifier.encoding, "classes", 0),
            known=known,
            bits=int(rule.get("bits", 0)),
            generator=numpy_generator(seed, "target", name, str(rule.get("bits", "")), split.ids[position]),
        )
        target = RULES[name](choice)
        if target != _integers(prediction):
            yield {
                "image_id": split.ids[position],
                "true_label": _integers(split.labels[position]),
                "prediction": _integers(prediction),
                "target": target,
            }


def _candidates(
    classifier: Classifier, split: ImageSet, name: str, seed: int, only_correct: bool
) -> Iterator[tuple[int, Tensor]]:
    """Positions of test images and their predictions, in the seed's order."""
    order, portions = numpy_generator(seed, "test images", name).permutation(len(split)), Portions()
    for begin in range(0, len(order), _BATCH):
        index = order[begin : begin + _BATCH].tolist()
        with torch.no_grad():
            predictions = portions.joined(classifier.decide, split.images(index).to(classifier.device)).cpu()
        for position, prediction in zip(index, predictions, strict=True):
            if not only_correct or bool((prediction == split.labels[position]).all()):
                yield position, prediction


def _integers(label: Tensor) -> Any:
    """A label as JSON would hold it: an integer, or a list of 0 and 1."""
    return label.tolist()
