"""Trains a classifier of a study: goes on with what was interrupted, and never repeats what is finished.

One with published weights and no epochs is only measured and written down.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from wolfe.classifier import Classifier
from wolfe.data.image_set import load_card, open_split
from wolfe.files import atomic_path, checked, read_json, write_json
from wolfe.fingerprint import code_fingerprint
from wolfe.linear.memory import in_memory
from wolfe.models.calibrating import calibrate
from wolfe.models.epoch_log import EpochLog
from wolfe.models.evaluation import evaluate
from wolfe.models.feed import Batches, Feed
from wolfe.models.fitting import fit, wants_quiet
from wolfe.models.folding import channels_side_by_side, for_attack
from wolfe.models.fresh import complete, fresh_classifier, make_encoding
from wolfe.models.frozen_features import FeatureFeed, FrozenFeatures, head_of
from wolfe.models.learner import Learner, TrainingOptions
from wolfe.models.losses import training_loss
from wolfe.models.pretrained import check_channels, check_names, find_weights, keeps_head, without_weights
from wolfe.models.storage import (
    CALIBRATION,
    DESCRIPTION,
    WEIGHTS,
    load_description,
    resolve_device,
    save_calibration,
    save_classifier,
)
from wolfe.models.weights_files import Weights
from wolfe.provenance import RUN, Run, begin_run, checksums, device_name, is_signed
from wolfe.seeding import seed_for

OUTPUTS = (WEIGHTS, DESCRIPTION, "metrics.json", "training.csv")
_SPLITS = ("train", "validation", "test")
_MODULE = "wolfe.models.training"
# Images that a calibration is measured with: as many as an attack takes together if nothing else is said.
_TOGETHER = 32


def train_model(
    name: str,
    spec: dict[str, Any],
    data_folder: Path,
    out: Path,
    store: Path,
    seed: int,
    device: str = "auto",
    bottom: Path | None = None,
    quiet: bool | None = None,
    calibrated: bool = False,
) -> None:
    """Trains a classifier, or takes the finished one from the store.

    A training that diverges after some epochs keeps the best weights of before, and `metrics.json` tells the epoch as
    `diverged_epoch`. A batch that memory does not hold is learned in parts; `metrics.json` and `training.csv` then tell
    their size as `micro_batch` (batch normalisation goes over a part, not over the batch).

    Writes `weights.safetensors`, `classifier.json`, `metrics.json`, `training.csv`, `calibration.json` where that is
    wanted, and `run.json` (checksums of the others, versions, seconds).

    Args:
        name: its name in the study.
        spec: its entry there: `network`, `encoding`, `loss`, `training`, and `dataset` (a name). With `epochs: 0` and
            published weights it is taken as it is, if its classes are the data set's.
        data_folder: the data set's folder.
        out: where the files go.
        store: folder shared by all stages; checkpoints and the finished classifier are kept under a key that is
            the hash of all that the result depends on.
        seed: the study's seed.
        device: "cpu", "cuda" or "auto".
        bottom: folder of the trained network whose layers an ensemble or a head on frozen features uses.
        quiet: no progress bar; None for none unless the output is a terminal.
        calibrated: measure once which way to products with the Jacobian is the fastest here; attacks then go it.

    Raises:
        FileNotFoundError: the data set, the bottom or published weights are missing.
        ValueError: the spec is wrong or a file was changed; the message says which and what is allowed. Or the
            training diverged in its first epoch.
    """
    place = resolve_device(device)
    measured = place if calibrated else None
    # Before the data are read, which may take hours.
    check_names(spec["network"])
    below = [Path(bottom) / name for name in (WEIGHTS, DESCRIPTION)] if bottom else []
    run = begin_run("train", spec, below, data_folder, seed)
    weights = find_weights(spec["network"])
    out, kept = Path(out), Path(store) / _key(name, spec, Path(data_folder), bottom, weights, seed, measured)
    if not _finished(kept / "classifier"):
        with atomic_path(kept / "classifier") as temporary:
            checkpoints, data = kept / "checkpoints", Path(data_folder)
            _train(name, spec, data, temporary, checkpoints, seed, place, bottom, weights, quiet, calibrated, run, out)
        shutil.rmtree(kept / "checkpoints", ignore_errors=True)
    # One that was measured before would stay in force.
    (out / CALIBRATION).unlink(missing_ok=True)
    for file in (*read_json(kept / "classifier" / RUN)["outputs"], RUN):
        with atomic_path(out / file) as temporary:
            shutil.copyfile(kept / "classifier" / file, temporary)


def _key(
    name: str,
    spec: dict[str, Any],
    data_folder: Path,
    bottom: Path | None,
    weights: Weights | None,
    seed: int,
    measured: str | None,
) -> str:
    """The hash of all that a trained classifier depends on; `measured` is the device of its calibration, if any."""
    kept = {key: value for key, value in spec.items() if key not in ("title", "stands_in", "bottom")}
    parts = {
        "name": name,
        # Where the weights lie does not matter, only what they are.
        "spec": {**kept, "network": without_weights(spec["network"])},
        "weights": weights.origin() if weights else None,
        "data": load_card(data_folder)["checksums"],
        "bottom": load_description(bottom)["weights_sha256"] if bottom else None,
        "seed": seed,
        "calibrated": measured,
        "code": code_fingerprint(_MODULE),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _finished(folder: Path) -> bool:
    """Whether a classifier is in the store and its files are those that were written."""
    try:
        run = read_json(folder / RUN)
        for file, expected in run["outputs"].items():
            checked(folder / file, expected)
        return is_signed(run)
    except (FileNotFoundError, ValueError, AttributeError, KeyError, TypeError):
        return False


def _train(
    name: str,
    spec: dict[str, Any],
    data_folder: Path,
    folder: Path,
    checkpoints: Path,
    seed: int,
    device: str,
    bottom: Path | None,
    weights: Weights | None,
    quiet: bool | None,
    calibrated: bool,
    run: Run,
    out: Path,
) -> None:
    """Trains, measures and writes everything into a folder."""
    started = time.perf_counter()
    training = dict(spec.get("training", {}))
    as_it_is = training.get("epochs") == 0
    options = TrainingOptions.from_dict({**training, "epochs": 1} if as_it_is else training)
    sets = {split: open_split(data_folder, split) for split in _SPLITS}
    shape, class_names = sets["train"].shape, sets["train"].class_names
    encoding = make_encoding(spec, len(class_names), sets["train"].task)
    check_channels(name, weights, shape[0])
    kept = keeps_head(name, weights, encoding, class_names, as_it_is)
    feeds = {split: Feed(images) for split, images in sets.items() if split != "train" or not as_it_is}
    own_seed = seed_for(seed, "training", name)
    network = without_weights(complete(spec["network"], bottom, shape))
    classifier = fresh_classifier(network, encoding, shape, feeds.get("train"), bottom, weights, kept, own_seed)
    channels_side_by_side(classifier.to(device))
    log = EpochLog()
    if not as_it_is:
        learnt, sources = _to_learn(classifier, feeds, options)
        loss = training_loss(encoding, spec.get("loss"))
        learner = Learner(learnt, options, len(class_names), own_seed, loss)
        log = fit(learner, sources["train"], sources["validation"], checkpoints, device, wants_quiet(quiet))
    classifier.to(device).eval()
    description = {
        "name": name,
        "network": network,
        "dataset": spec.get("dataset", load_card(data_folder)["name"]),
        "image_shape": list(shape),
        "class_names": class_names,
        **({"weights": weights.origin()} if weights else {}),
    }
    save_classifier(classifier, folder, description)
    if as_it_is:
        (folder / "training.csv").write_text("epoch\n", encoding="utf-8")
    else:
        log.write(folder / "training.csv")
    if calibrated:
        images = sets["test"].images(range(min(_TOGETHER, len(sets["test"])))).to(device)
        faster = for_attack(classifier, images)
        save_calibration(in_memory(lambda size: calibrate(faster, images[:size]), len(images)), folder)
    seconds = time.perf_counter() - started
    metrics = _write_metrics(folder, classifier, feeds, len(class_names), log, seconds)
    written = [folder / file for file in (*OUTPUTS, CALIBRATION) if (folder / file).is_file()]
    device_used = device_name(classifier.device)
    run.write(folder / RUN, checksums(written), [_MODULE], out, seconds=metrics["seconds"], device=device_used)


def _to_learn(
    classifier: Classifier, feeds: dict[str, Feed], options: TrainingOptions
) -> tuple[Classifier, Mapping[str, Batches]]:
    """What to fit on what: over frozen features of unchanging images the head alone, on features computed once."""
    if not isinstance(classifier.net, FrozenFeatures) or options.augment is not None:
        return classifier, feeds
    splits = ("train", "validation")
    return head_of(classifier), {split: FeatureFeed(feeds[split], classifier.eval()) for split in splits}


def _write_metrics(
    folder: Path, classifier: Classifier, feeds: dict[str, Feed], classes: int, log: EpochLog, seconds: float
) -> dict[str, Any]:
    """Writes `metrics.json`, whose contents it gives back."""
    scores = {split: evaluate(classifier, feeds[split], classes) for split in ("validation", "test")}
    best, diverged = log.best("mAP" if classifier.encoding.multi_label else "accuracy"), log.diverged()
    parts = [int(row["micro_batch"]) for row in log.rows if "micro_batch" in row]
    metrics: dict[str, Any] = {
        **scores,
        "epochs": len(log.rows),
        "best_epoch": best["epoch"] if best else 0,
        **({"diverged_epoch": diverged["epoch"]} if diverged else {}),
        **({"micro_batch": min(parts)} if parts else {}),
        "parameters": count_parameters(classifier),
        "counts": {split: len(feed) for split, feed in feeds.items()},
        "seconds": round(seconds, 2),
        "training_seconds": round(sum(row["seconds"] for row in log.rows), 2),
    }
    write_json(folder / "metrics.json", metrics)
    return metrics


def count_parameters(network: nn.Module) -> int:
    """The number of parameters, frozen ones too."""
    return sum(item.numel() for item in network.parameters())
