"""What must hold before detectors are trained: runs, data, classifier and detectors belong together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wolfe.data.image_set import load_card
from wolfe.detection_lines import EXTRA, GENUINE, POOLED
from wolfe.experiments.attack_run import ADVERSARIALS
from wolfe.experiments.detection_networks import Detector, checked_detectors
from wolfe.files import sha256
from wolfe.models.learner import TrainingOptions
from wolfe.models.storage import DESCRIPTION, load_description
from wolfe.reading.tensors import read_array
from wolfe.report.records import RowRecords, attacks_of, read_row

TEST_SHARE, VALIDATION_SHARE = 0.5, 0.1
"""Shares of the images that are tested on and chosen by, where an experiment does not say others."""
TRAINING: dict[str, Any] = {"epochs": 20, "learning_rates": [1e-3, 1e-4, 1e-5], "weight_decay": 1e-4}
"""How detectors are trained where an experiment does not say otherwise: Adam with three learning rates, as in the
paper, whose values are lost."""


@dataclass(frozen=True)
class Attacked:
    """One attack's images.

    Attributes:
        label: what the attack is called here.
        table: the table that it is a row of.
        row: its records.
        learnt: whether detectors learn from it, or are only tested on it.
    """

    label: str
    table: str
    row: RowRecords
    learnt: bool

    def successes(self) -> set[str]:
        """Names of the images that reached their target."""
        records = self.row.records
        return {str(name) for name in records.loc[records["success"].astype(bool), "image_id"]}

    def images(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The attacked images (B, C, H, W) of these names."""
        found = read_array(self.row.folder / ADVERSARIALS, "adversarials")
        if len(found) != len(self.row.records):
            count = f"{len(found)} images and {len(self.row.records)} records"
            raise ValueError(f"{self.row.folder} holds {count}: run it again")
        places = {str(name): place for place, name in enumerate(self.row.records["image_id"])}
        return np.asarray(found[[places[name] for name in names]], dtype=np.float32)


@dataclass(frozen=True)
class Plan:
    """A detection experiment whose inputs are there and fit.

    Attributes:
        name: of the experiment.
        data: folder of the data set.
        model: folder of the classifier that was attacked.
        attacks: what was attacked: the runs to learn from, then those only tested on.
        detectors: all detectors.
        single: names of those that are also trained on each attack alone.
        options: how to train, one entry for each learning rate.
        test_share: share of the images to test on.
        validation_share: share of the images to choose by.
    """

    name: str
    data: Path
    model: Path
    attacks: list[Attacked]
    detectors: list[Detector]
    single: list[str]
    options: list[TrainingOptions]
    test_share: float
    validation_share: float

    @property
    def learnt(self) -> list[Attacked]:
        """The runs to learn from."""
        return [attack for attack in self.attacks if attack.learnt]


def checked_plan(spec: Mapping[str, Any], results: Path) -> Plan:
    """The experiment, once everything that it reads is known to be there, whole and of one kind.

    Args:
        spec: see `detection.write_detection`.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, something is named twice or not at all, or labels, classes or images differ.
    """
    data, model = Path(results) / "data" / spec["dataset"], Path(results) / "models" / spec["source"]
    _check_labels(model, data)
    attacks = _attacks(spec, results, model, data)
    detectors = checked_detectors(spec, results, load_card(data)["image_shape"])
    names = [detector.name for detector in detectors]
    distinct("detector", names)
    single = [str(name) for name in spec.get("single", [])]
    distinct("single detector", single)
    for name in single:
        if name not in names:
            raise ValueError(f"single: there is no detector {name!r}; there are {', '.join(names)}")
    return Plan(
        name=str(spec["name"]),
        data=data,
        model=model,
        attacks=attacks,
        detectors=detectors,
        single=single,
        options=training_options(spec.get("training", {})),
        test_share=float(spec.get("test_share", TEST_SHARE)),
        validation_share=float(spec.get("validation_share", VALIDATION_SHARE)),
    )


def training_options(training: Mapping[str, Any]) -> list[TrainingOptions]:
    """How to train, one entry for each of `learning_rates`, with `TRAINING` for what is not said.

    Raises:
        ValueError: there is no rate, one is named twice, images would be augmented, or an option is wrong.
    """
    options = {**TRAINING, **training}
    rates = options.pop("learning_rates")
    # The best weights of all epochs are kept, so nothing is gained by ending early.
    options["patience"] = options["epochs"]
    if not rates:
        raise ValueError("training: learning_rates must name at least one learning rate")
    distinct("learning rate", map(str, rates))
    if options.get("augment") is not None:
        raise ValueError(
            "training: augment would smooth away the perturbations that a detector looks for: leave it out"
        )
    return [TrainingOptions.from_dict({**options, "learning_rate": float(rate)}) for rate in rates]


def _attacks(spec: Mapping[str, Any], results: Path, model: Path, data: Path) -> list[Attacked]:
    """The runs, verified, once they are known to be of this classifier and data, on shared images."""
    parts = [(spec["learn"], True), *((part, False) for part in spec.get("tested", []))]
    attacks = []
    for part, learnt in parts:
        if part["model"] != spec["source"]:
            raise ValueError(
                f"table {part['table']} attacked {part['model']}, the detectors' source is {spec['source']}"
            )
        folder = attacks_of(part, results)
        rows = [(str(row["label"]), read_row(folder / row["slug"])) for row in part["rows"]]
        attacks += [Attacked(label, str(part["table"]), row, learnt) for label, row in rows]
    distinct("attack", [POOLED, GENUINE, EXTRA, *(attack.label for attack in attacks)])
    if not any(attack.learnt for attack in attacks):
        raise ValueError("learn: name at least one attack that detectors are trained on")
    for attack in attacks:
        _check_run(attack, model, data)
    _check_images(attacks)
    return attacks


def _check_run(attack: Attacked, model: Path, data: Path) -> None:
    depends, folder = attack.row.run.get("depends_on", {}), attack.row.folder
    if depends.get("data") != sha256(data / "card.json"):
        raise ValueError(f"{folder} did not attack the images of {data}: run it again")
    if depends.get("weights") != load_description(model)["weights_sha256"]:
        raise ValueError(f"{folder} did not attack {model} as it is now: run it again")
    if attack.learnt and not attack.row.records["success"].any():
        raise ValueError(f"{folder} reached no target: there is no adversarial image to learn from")


def _check_images(attacks: Sequence[Attacked]) -> None:
    """What is learnt from shares its images, and what is only tested on attacked some of the same ones."""
    first = next(attack for attack in attacks if attack.learnt)
    known = set(first.row.records["image_id"])
    for attack in attacks:
        own = set(attack.row.records["image_id"])
        if own != known if attack.learnt else not own <= known:
            wanted = "the same images as" if attack.learnt else "images among those of"
            raise ValueError(f"{attack.row.folder} must have attacked {wanted} {first.row.folder}: run it again")


def _check_labels(model: Path, data: Path) -> None:
    card, description = load_card(data), load_description(model)
    if card["task"] != "single":
        raise ValueError(f"{data} has several labels an image: detectors' splits need one class each")
    if description.get("class_names") != card["class_names"]:
        raise ValueError(
            f"{model / DESCRIPTION} names other classes than {data}: the model belongs to another data set"
        )


def distinct(noun: str, names: Iterable[str]) -> None:
    """Refuses a name that is given twice.

    Raises:
        ValueError: one is; the message names it.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the {noun} {name!r} is named twice: results could not be told apart")
        seen.add(name)
