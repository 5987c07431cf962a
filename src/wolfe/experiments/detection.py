"""Telling adversarial from genuine: networks trained to detect attacked images, on some attacks and tested on others.

Ozbulak, Gasparyan, De Neve, Van Messem: "Perturbation Analysis of Gradient-based Adversarial Attacks", Pattern
Recognition Letters 2020, Section V-C, Tables II and III. Beyond the paper: attacks that nothing was learnt from, images
rounded to 8 bits and compressed, and a learning rate chosen without a look at the test part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from wolfe.detection_lines import POOLED
from wolfe.experiments.attack_run import RECORDS, RUN
from wolfe.experiments.detection_checks import Plan, checked_plan
from wolfe.experiments.detection_images import Images, read_images
from wolfe.experiments.detection_judging import judge
from wolfe.experiments.detection_training import Trained, train
from wolfe.experiments.detection_versions import JPEG_QUALITY
from wolfe.experiments.store import Store
from wolfe.files import atomic_path, sha256
from wolfe.models.storage import load_classifier, load_description, resolve_device
from wolfe.precision import full_precision
from wolfe.provenance import Run, begin_run, checksums, device_name
from wolfe.study.needs import experiment_inputs

DETECTORS, IMAGES = "detectors.parquet", "images.parquet"


def write_detection(spec: Mapping[str, Any], results: Path, out: Path, seed: int, device: str) -> None:
    """Trains detectors on attacked images, and judges them on images that none of them has seen in any version.

    Every detector is trained on all attacks of `learn` together, with extra genuine images so that both classes are as
    many, and those named in `single` on each attack alone, half and half. Training is on 8-bit images. Finished
    trainings are kept in `results/store`.

    Args:
        spec: the experiment: `name`, `dataset`, `source` (the classifier that was attacked), `learn` {table, model,
            targets, rows: [{label, slug}]}, `tested` (more of the same, only to be tested on), `detectors` [{name,
            network, start}], `single` (names), `training` {epochs, batch_size, learning_rates, weight_decay; epochs are
            passes over all attacks together}, `test_share`, `validation_share`; the last four have defaults.
        results: `results/<study>`, with data, models and attacks.
        out: a folder for `records.parquet` (one row for each detector and image version, see `detection_judging`),
            `detectors.parquet` (one row a training), `images.parquet` (which image is in which part) and `run.json`.
        seed: the study's.
        device: "cpu", "cuda" or "auto".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, labels or classes differ, images are too few for a split, a detector is named
            twice, or an attack has no success in a part. All of this is found before the first training.
    """
    place = resolve_device(device)
    read = experiment_inputs({**spec, "kind": "detection"}, results)
    run = begin_run("experiment", spec, read, Path(results) / "data" / spec["dataset"], seed)
    plan = checked_plan(spec, results)
    images = read_images(plan, seed)
    trained = _train(plan, images, Store(Path(results) / "store"), seed, place)
    with full_precision({"cpu", place}):
        judged, trainings = judge(plan, images, load_classifier(plan.model, place), trained)
    content = {
        "name": plan.name,
        "runs": {attack.label: sha256(attack.row.folder / RUN) for attack in plan.attacks},
        "source": sha256(plan.model / "weights.safetensors"),
        "data": sha256(plan.data / "card.json"),
        "counts": images.counts(),
        "jpeg_quality": JPEG_QUALITY,
        "device": device_name(torch.device(place)),
    }
    _write({RECORDS: judged, DETECTORS: trainings, IMAGES: images.listing}, run, content, Path(out))


def _train(plan: Plan, images: Images, store: Store, seed: int, device: str) -> list[Trained]:
    """All trainings: every detector on all attacks, some on each attack alone, each at every learning rate."""
    description = load_description(plan.model)
    normalisation = (description["mean"], description["std"])
    trained, most = [], 0
    for name in (POOLED, *(attack.label for attack in plan.learnt)):
        lesson = images.lesson(name)
        most = most or len(lesson.train)
        for detector in plan.detectors:
            if name == POOLED or detector.name in plan.single:
                for options in plan.options:
                    epochs = epochs_of(options.epochs, len(lesson.train), most)
                    asked = replace(options, epochs=epochs, patience=epochs)
                    trained.append(train(detector, lesson, asked, normalisation, store, seed, device))
    return trained


def epochs_of(epochs: int, images: int, most: int) -> int:
    """Passes over fewer images, so that about as many steps are made as in `epochs` passes over `most` images.

    A detector that is trained on one attack so differs from a pooled one in what it sees, not in how long it learns.
    """
    return max(epochs, round(epochs * most / images))


def _write(frames: Mapping[str, pd.DataFrame], run: Run, content: dict[str, Any], out: Path) -> None:
    """Writes the files and the manifest with their checksums, all or none."""
    with atomic_path(out) as temporary:
        temporary.mkdir()
        for name, frame in frames.items():
            frame.to_parquet(temporary / name, index=False)
        outputs = checksums(temporary / name for name in frames)
        run.write(temporary / RUN, outputs, ["wolfe.experiments.detection"], **content)
