"""Trains detectors: networks with two outputs, genuine and adversarial, by the house's own training loop."""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wolfe.classifier import Classifier
from wolfe.experiments.detection_networks import CLASSES, Detector, fresh_detector
from wolfe.experiments.detection_versions import Stored
from wolfe.experiments.store import Store
from wolfe.files import read_json, sha256, write_json
from wolfe.fingerprint import code_fingerprint
from wolfe.models.fitting import fit
from wolfe.models.folding import channels_side_by_side
from wolfe.models.learner import Learner, TrainingOptions
from wolfe.models.storage import save_classifier
from wolfe.models.training import count_parameters
from wolfe.seeding import seed_for


@dataclass(frozen=True)
class Lesson:
    """What a detector is trained on.

    Attributes:
        name: "pooled" or the label of an attack.
        train: what it learns from.
        validation: what weights and learning rate are chosen by.
    """

    name: str
    train: Stored
    validation: Stored


@dataclass(frozen=True)
class Trained:
    """A detector that was trained once.

    Attributes:
        detector: its name.
        trained_on: name of the lesson.
        folder: where its weights are.
        numbers: how the training went: learning_rate, epochs, best_epoch, validation_accuracy, seconds, ...
    """

    detector: str
    trained_on: str
    folder: Path
    numbers: dict[str, Any]


def train(
    detector: Detector,
    lesson: Lesson,
    options: TrainingOptions,
    normalisation: tuple[list[float], list[float]],
    store: Store,
    seed: int,
    device: str,
) -> Trained:
    """Trains a detector, or takes the finished one from the store.

    Args:
        detector: which one.
        lesson: on what.
        options: how; the weights with the best validation accuracy are kept.
        normalisation: mean and standard deviation of each channel, where the detector starts from nothing.
        store: of finished work.
        seed: of the training; weights at the start depend on it and the detector, whatever the lesson.
        device: "cpu" or "cuda".
    """
    key = store.key(
        network=detector.network,
        start=sha256(detector.start / "weights.safetensors") if detector.start else None,
        normalisation=normalisation,
        options=asdict(options),
        images=[_checksum(lesson.train), _checksum(lesson.validation)],
        seed=seed,
        device=device,
        code=code_fingerprint("wolfe.experiments.detection_training"),
    )
    checkpoints = store.folder / key / "checkpoints"

    def make(folder: Path) -> None:
        """Trains and fills the folder."""
        own = seed_for(seed, "detector", detector.name)
        classifier = fresh_detector(detector, lesson.train.images.shape[1:], normalisation, own).to(device)
        _fit(classifier, lesson, options, own, folder, checkpoints, device, detector)

    folder, _ = store.piece(key, "detector", make)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Trained(detector.name, lesson.name, folder, read_json(folder / "metrics.json"))


def _checksum(images: Stored) -> str:
    digest = hashlib.sha256(images.labels.numpy().tobytes())
    digest.update(images.images.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _fit(
    classifier: Classifier,
    lesson: Lesson,
    options: TrainingOptions,
    seed: int,
    folder: Path,
    checkpoints: Path,
    device: str,
    detector: Detector,
) -> None:
    """Trains and writes weights, log and numbers into a folder."""
    begin = time.perf_counter()
    channels_side_by_side(classifier)
    learner = Learner(classifier, options, len(CLASSES), seed)
    log = fit(learner, lesson.train, lesson.validation, checkpoints, device, quiet=True)
    best = log.best("accuracy")
    assert best is not None  # else its training would have been refused
    shape = list(lesson.train.images.shape[1:])
    description = {"name": detector.name, "network": detector.network, "image_shape": shape, "class_names": CLASSES}
    save_classifier(classifier, folder, description)
    log.write(folder / "training.csv")
    counts = {
        f"{part}_{name}": int((images.labels == label).sum())
        for part, images in (("train", lesson.train), ("validation", lesson.validation))
        for label, name in enumerate(CLASSES)
    }
    numbers = {
        "learning_rate": options.learning_rate,
        "epochs": len(log.rows),
        "best_epoch": int(best["epoch"]),
        "parameters": count_parameters(classifier),
        **counts,
        "train_loss": log.rows[-1]["train_loss"],
        "validation_accuracy": best["validation_accuracy"],
        "validation_loss": best["validation_loss"],
        "seconds": round(time.perf_counter() - begin, 2),
    }
    write_json(folder / "metrics.json", numbers)
