"""Small trained classifiers, one of each encoding: networks of the embedded study, trained in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.problems import Case
from benchmarks.settings import Settings
from wolfe.data import build_dataset, open_split
from wolfe.experiments.targets import read_targets, write_targets
from wolfe.models.storage import load_classifier
from wolfe.models.training import train_model

ONE_HOT, CODE, LABELS = (
    "one-hot 10, VGG16 on digits",
    "ECOC 16, VGG16 ensemble on digits",
    "multi-label 20, ViT on scenes",
)
_STUDY = Path(__file__).parents[1] / "config" / "embedded.yaml"
_MODELS = {ONE_HOT: "digits_vgg16", CODE: "digits_ecoc", LABELS: "scenes_vit"}
# What a quick look changes.
_QUICK_EPOCHS = {"digits_vgg16": 8, "digits_ecoc": 4, "scenes_vit": 3}


def case(settings: Settings, name: str, flips: int, count: int) -> Case:
    """A trained classifier with test images and targets.

    Args:
        settings: of the run; what is trained is kept in its working folder.
        name: ONE_HOT, CODE or LABELS.
        flips: labels to flip, for LABELS, or 0 for a label vector of the training set; the other encodings get another
            class at random.
        count: of images, drawn from the test images whatever the classifier says of them, and not at their target.
    """
    folder = settings.work / settings.pick("quick", "whole")
    study = yaml.safe_load(_STUDY.read_text(encoding="utf-8"))
    model = _trained(settings, study, _MODELS[name], folder)
    data = folder / "data" / study["models"][_MODELS[name]]["dataset"]
    rule: dict[str, Any] = {"rule": "other_class", "images": count, "only_correct": False}
    if name == LABELS:
        rule |= {"rule": "flip_bits", "bits": flips} if flips else {"rule": "training_labels"}
    path = folder / "targets" / f"{_MODELS[name]}_{flips}_{count}.parquet"
    write_targets(model, data, rule, path, settings.seed, settings.device)
    aim = f", flip {flips}" if flips else ", a training vector" if name == LABELS else ""
    return _case(settings, name + aim, model, data, path)


def _case(settings: Settings, name: str, model: Path, data: Path, targets: Path) -> Case:
    classifier, test = load_classifier(model, settings.device), open_split(data, "test")
    table = read_targets(targets)
    positions = {identity: position for position, identity in enumerate(test.ids)}
    images = test.images([positions[identity] for identity in table["image_id"]])
    wanted = torch.from_numpy(np.array(table["target"].tolist()))
    return Case(name, classifier, images.to(settings.device), wanted.to(settings.device))


def _trained(settings: Settings, study: dict[str, Any], name: str, folder: Path) -> Path:
    """The folder of a trained model of the study, trained now unless it is in the store."""
    spec = study["models"][name]
    if settings.quick:
        spec = {**spec, "training": {**spec["training"], "epochs": _QUICK_EPOCHS[name]}}
    data = folder / "data" / spec["dataset"]
    if not (data / "card.json").is_file():
        build_dataset(spec["dataset"], study["datasets"][spec["dataset"]], data, settings.seed)
    bottom = _trained(settings, study, spec["bottom"], folder) if "bottom" in spec else None
    out = folder / "models" / name
    train_model(name, spec, data, out, folder / "store", settings.seed, settings.device, bottom, quiet=True)
    return out
