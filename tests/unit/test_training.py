"""Training: what it writes, that it goes on where it stopped, that it repeats nothing, what it refuses."""

from __future__ import annotations

import csv
import json
import os
from itertools import chain

import numpy as np
import pytest
import torch

from wolfe.data.source import Source, Split
from wolfe.data.writer import write_source
from wolfe.files import sha256
from wolfe.models import load_classifier, train_model
from wolfe.models import training as training_module
from wolfe.models.augment import Augmentation
from wolfe.models.epoch_log import EpochLog
from wolfe.models.feed import EpochBatches
from wolfe.models.frozen_features import without_last_layer
from wolfe.models.learner import TrainingOptions
from wolfe.models.vgg import VGG16

SEED = 11
FILES = ("weights.safetensors", "classifier.json", "metrics.json", "training.csv", "run.json")
TRAINING = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.003,
    "optimizer": "adamw",
    "schedule": "one_cycle",
}
ONE_HOT = {
    "dataset": "bars",
    "network": {"name": "vgg16", "width": 1 / 32, "dropout": 0.1},
    "encoding": {"kind": "one_hot"},
    "loss": "cross_entropy",
    "training": {**TRAINING, "augment": {"shift": 1}},
}
ECOC = {
    **ONE_HOT,
    "network": {"name": "vgg16_ensemble", "width": 1 / 32},
    "encoding": {"kind": "codebook", "code": "hadamard", "length": 4},
    "loss": "hinge",
}
MULTI = {
    **ONE_HOT,
    "network": {"name": "timm", "architecture": "resnet10t", "channels": [8, 8, 8, 16], "stem_width": 8},
    "encoding": {"kind": "multi_label"},
    "loss": "binary_cross_entropy",
}


def bars(seed, task, channels=1):
    """Noise with a bright band: its place is the class; multi-label pictures may have several."""
    random = np.random.default_rng(seed)
    splits = {}
    for name, count in {"train": 64, "validation": 24, "test": 24}.items():
        images, labels = [], []
        for index in range(count):
            on = [index % 3] if task == "single" else sorted(random.choice(3, random.integers(1, 3), False).tolist())
            picture = random.integers(0, 60, (32, 32)).astype(np.uint8)
            for label in on:
                picture[10 * label + 1 : 10 * label + 9] += 150
            images.append(picture if channels == 1 else np.stack([picture] * 3, axis=2))
            labels.append(on[0] if task == "single" else on)
        splits[name] = Split(images, labels)
    return Source(task, ["top", "middle", "bottom"], splits, "1", "Bars.")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_source("bars", "bars", bars(1, "single"), folder / "single")
    write_source("bars", "bars", bars(2, "multi", channels=3), folder / "multi")
    return folder


@pytest.fixture(scope="module")
def one_hot(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_hot")
    spec = {**ONE_HOT, "training": {**ONE_HOT["training"], "epochs": 8}}
    train_model("one_hot", spec, data / "single", folder / "out", folder / "store", SEED, "cpu")
    return folder / "out"


def read(folder, name):
    return json.loads((folder / name).read_text())


def rows(folder):
    with (folder / "training.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_training_writes_a_classifier_that_learned(one_hot, data):
    assert sorted(path.name for path in one_hot.iterdir()) == sorted(FILES)
    metrics = read(one_hot, "metrics.json")
    assert metrics["test"]["accuracy"] >= 0.9
    assert metrics["counts"] == {"train": 64, "validation": 24, "test": 24}
    assert metrics["epochs"] == len(rows(one_hot)) == 8
    assert metrics["parameters"] == sum(p.numel() for p in load_classifier(one_hot).parameters())
    best = max(float(row["validation_accuracy"]) for row in rows(one_hot))
    assert metrics["validation"]["accuracy"] == pytest.approx(best), "the best weights are kept, not the last"
    assert read(one_hot, "run.json")["outputs"] == {name: sha256(one_hot / name) for name in FILES[:4]}


def test_metrics_are_those_of_the_stored_classifier(one_hot, data):
    from wolfe.data import open_split

    part = open_split(data / "single", "test")
    decided = load_classifier(one_hot).decide(part.images(range(len(part))))
    accuracy = (decided == part.labels).float().mean().item()
    assert read(one_hot, "metrics.json")["test"]["accuracy"] == pytest.approx(accuracy)


def test_ensemble_shares_the_trained_bottom(one_hot, data, tmp_path):
    train_model("ecoc", ECOC, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu", bottom=one_hot)
    classifier, source = load_classifier(tmp_path / "out"), load_classifier(one_hot)
    expected = source.net.bottom().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in classifier.net.bottom.state_dict().items())
    assert torch.equal(classifier.mean, source.mean)
    assert classifier.encoding.codewords.shape == (3, 4)


def frozen(data, folder, bottom, training):
    spec = {**ONE_HOT, "network": {"name": "frozen_features", "hidden": 16}, "training": {**TRAINING, **training}}
    train_model("head", spec, data / "single", folder / "out", folder / "store", SEED, "cpu", bottom=bottom)
    return folder / "out"


def test_a_head_learns_on_frozen_features(one_hot, data, tmp_path):
    folder = frozen(data, tmp_path, one_hot, {"epochs": 8})
    classifier, source = load_classifier(folder), load_classifier(one_hot)
    expected = without_last_layer(source.net).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in classifier.net.features.state_dict().items())
    assert torch.equal(classifier.mean, source.mean) and torch.equal(classifier.std, source.std)
    assert read(folder, "classifier.json")["network"]["backbone"] == ONE_HOT["network"]
    assert read(folder, "metrics.json")["test"]["accuracy"] >= 0.9
    best = max(float(row["validation_accuracy"]) for row in rows(folder))
    assert read(folder, "metrics.json")["validation"]["accuracy"] == pytest.approx(best)


def test_frozen_features_computed_once_train_the_same_head(one_hot, data, tmp_path):
    whole = frozen(data, tmp_path / "whole", one_hot, {"augment": {}})
    parts = frozen(data, tmp_path / "parts", one_hot, {})
    for one, other in zip(rows(whole), rows(parts), strict=True):
        assert float(one["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-3)


def test_multi_label_training_reports_map_and_exact_match(data, tmp_path):
    train_model("multi", MULTI, data / "multi", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    metrics = read(tmp_path / "out", "metrics.json")
    assert set(metrics["test"]) == {"mAP", "exact_match"}
    assert metrics["test"]["mAP"] > 0.5
    assert "validation_mAP" in rows(tmp_path / "out")[0]


class KilledError(Exception):
    """Stands for whatever ends a process."""


def killed_after(epochs, monkeypatch):
    """Makes training die in the middle of the epoch after `epochs` whole ones; returns the epochs it started."""
    started = []

    def note(self, trainer, module):
        started.append(trainer.current_epoch)
        self._started = 0.0

    def die(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == epochs and batch_idx == 1:
            raise KilledError

    monkeypatch.setattr(EpochLog, "on_train_epoch_start", note)
    monkeypatch.setattr(EpochLog, "on_train_batch_end", die)
    return started


def test_an_interrupted_training_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    arguments = ("one", ONE_HOT, data / "single")
    train_model(*arguments, tmp_path / "whole", tmp_path / "store_a", SEED, "cpu")
    with monkeypatch.context() as patch:
        assert killed_after(1, patch) == []
        with pytest.raises(KilledError):
            train_model(*arguments, tmp_path / "parts", tmp_path / "store_b", SEED, "cpu")
    assert not (tmp_path / "parts").exists()
    assert len(list((tmp_path / "store_b").rglob("last.ckpt"))) == 1
    with monkeypatch.context() as patch:
        started = killed_after(99, patch)
        train_model(*arguments, tmp_path / "parts", tmp_path / "store_b", SEED, "cpu")
    assert started == [1, 2], "the finished epoch is not repeated"
    assert sha256(tmp_path / "parts" / FILES[0]) == sha256(tmp_path / "whole" / FILES[0])
    for part, whole in zip(rows(tmp_path / "parts"), rows(tmp_path / "whole"), strict=True):
        assert {**part, "seconds": 0} == {**whole, "seconds": 0}
    assert not list((tmp_path / "store_b").rglob("last.ckpt")), "checkpoints of a finished training are removed"


def _cut_off(file):
    file.write_bytes(file.read_bytes()[:1000])


def _flip(file):
    """Torch reads it without a word."""
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def _replace(file):
    file.unlink()
    file.mkdir()


def _without_a_part(file):
    content = torch.load(file, weights_only=True)
    torch.save({name: value for name, value in content.items() if name != "state_dict"}, file)


def _of_another_network(file):
    content = torch.load(file, weights_only=True)
    content["state_dict"].popitem()
    torch.save(content, file)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("damage", [_cut_off, _flip, _replace, _without_a_part, _of_another_network])
def test_a_damaged_checkpoint_starts_over(data, tmp_path, monkeypatch, name, damage):
    arguments = ("one", ONE_HOT, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    with monkeypatch.context() as patch:
        killed_after(1, patch)
        with pytest.raises(KilledError):
            train_model(*arguments)
    (checkpoint,) = (tmp_path / "store").rglob(name)
    damage(checkpoint)
    with pytest.warns(UserWarning, match=rf"{name} cannot be read .* training starts over"):
        train_model(*arguments)
    assert [row["epoch"] for row in rows(tmp_path / "out")] == ["1", "2", "3"]


@pytest.mark.parametrize("error", [MemoryError("no room"), PermissionError("not now")])
def test_a_checkpoint_that_cannot_be_looked_at_is_kept(data, tmp_path, monkeypatch, error):
    arguments = ("one", ONE_HOT, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    with monkeypatch.context() as patch:
        killed_after(1, patch)
        with pytest.raises(KilledError):
            train_model(*arguments)

    def fails(*arguments: object, **options: object):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", fails)
        with pytest.raises(type(error)):
            train_model(*arguments)
    with monkeypatch.context() as patch:
        started = killed_after(99, patch)
        train_model(*arguments)
    assert started == [1, 2]


def test_a_best_checkpoint_that_is_gone_starts_over(data, tmp_path, monkeypatch):
    arguments = ("one", ONE_HOT, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    with monkeypatch.context() as patch:
        killed_after(1, patch)
        with pytest.raises(KilledError):
            train_model(*arguments)
    next((tmp_path / "store").rglob("best.ckpt")).unlink()
    with pytest.warns(UserWarning, match=r"best\.ckpt cannot be read .* training starts over"):
        train_model(*arguments)
    assert [row["epoch"] for row in rows(tmp_path / "out")] == ["1", "2", "3"]


def test_a_finished_training_is_not_repeated_unless_something_changed(data, tmp_path, monkeypatch):
    store = tmp_path / "store"
    spec = {**ONE_HOT, "training": {**TRAINING, "epochs": 1}}
    train_model("one", spec, data / "single", tmp_path / "first", store, SEED, "cpu")
    trained = []
    real = training_module._train
    monkeypatch.setattr(training_module, "_train", lambda *rest: trained.append(1) or real(*rest))
    train_model("one", {**spec, "title": "Renamed"}, data / "single", tmp_path / "second", store, SEED, "cpu")
    assert not trained
    assert sha256(tmp_path / "first") == sha256(tmp_path / "second")
    (kept,) = store.rglob("weights.safetensors")
    kept.write_bytes(kept.read_bytes()[:-1] + b"\0\0")
    train_model("one", spec, data / "single", tmp_path / "third", store, SEED, "cpu")
    assert len(trained) == 1, "a damaged piece of the store is made again"
    assert sha256(tmp_path / "third" / FILES[0]) == sha256(tmp_path / "first" / FILES[0])
    (told,) = store.glob("*/classifier/run.json")
    told.write_text(told.read_text().replace('"stage": "train"', '"stage": "brain"'))
    train_model("one", spec, data / "single", tmp_path / "third", store, SEED, "cpu")
    assert len(trained) == 2, "nor is one taken whose run file was changed"
    train_model("one", spec, data / "single", tmp_path / "fourth", store, SEED + 1, "cpu")
    assert len(trained) == 3
    assert sha256(tmp_path / "fourth" / FILES[0]) != sha256(tmp_path / "first" / FILES[0])


def test_a_calibration_is_measured_kept_and_used_where_it_is_wanted(data, tmp_path):
    spec = {**ONE_HOT, "training": {**TRAINING, "epochs": 1}}
    arguments = ("one", spec, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    train_model(*arguments, calibrated=True)
    measured = read(tmp_path / "out", "calibration.json")
    assert measured["device"] == "cpu"
    assert load_classifier(tmp_path / "out").calibration.to_dict() == measured
    outputs = read(tmp_path / "out", "run.json")["outputs"]
    assert outputs["calibration.json"] == sha256(tmp_path / "out" / "calibration.json")
    weights = sha256(tmp_path / "out" / FILES[0])
    train_model(*arguments)
    assert load_classifier(tmp_path / "out").calibration is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert sha256(tmp_path / "out" / FILES[0]) == weights
    train_model(*arguments, calibrated=True)
    assert read(tmp_path / "out", "calibration.json") == measured, "what is finished is not measured again"


def test_training_stops_when_the_score_stalls(data, tmp_path):
    options = {**TRAINING, "schedule": "constant", "epochs": 12, "patience": 1, "learning_rate": 1e-9}
    train_model("one", {**ONE_HOT, "training": options}, data / "single", tmp_path / "o", tmp_path / "s", SEED, "cpu")
    assert read(tmp_path / "o", "metrics.json")["epochs"] < 12


def test_training_leaves_global_state_and_says_nothing(data, tmp_path, capfd):
    state = torch.get_rng_state()
    spec = {**ONE_HOT, "training": {**TRAINING, "epochs": 1}}
    train_model("one", spec, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    said = capfd.readouterr()
    assert said.out == said.err == ""
    train_model("one", spec, data / "single", tmp_path / "o", tmp_path / "s", SEED, "cpu", quiet=False)
    assert "Epoch 0" in capfd.readouterr().out


def test_a_job_of_a_cluster_trains_alone(data, tmp_path, monkeypatch):
    """A cluster's commands and variables change nothing: no warning, no search for other processes."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text("#!/bin/sh\n")
    (commands / "srun").chmod(0o755)
    spec = {**ONE_HOT, "training": {**TRAINING, "epochs": 1}}
    train_model("one", spec, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    train_model("one", spec, data / "single", tmp_path / "out2", tmp_path / "store2", SEED, "cpu")
    for name, value in {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "job",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    train_model("one", spec, data / "single", tmp_path / "out3", tmp_path / "store3", SEED, "cpu")
    weights = {(tmp_path / name / "weights.safetensors").read_bytes() for name in ("out", "out2", "out3")}
    assert len(weights) == 1


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_training_computes_in_the_precision_it_is_told(precision, data, tmp_path, monkeypatch):
    seen = []
    real = VGG16.forward

    def watched(self, x):
        """Notes what logits are in, and what products may be rounded to, while the network learns."""
        logits = real(self, x)
        if self.training:
            seen.append((logits.dtype, torch.get_float32_matmul_precision()))
        return logits

    monkeypatch.setattr(VGG16, "forward", watched)
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    spec = {**ONE_HOT, "training": {**TRAINING, "precision": precision}}
    train_model("one", spec, data / "single", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
    number = torch.bfloat16 if precision == "bf16" else torch.float32
    assert set(seen) == {(number, "high" if precision == "tf32" else before[0])}
    classifier = load_classifier(tmp_path / "out")
    assert {value.dtype for value in classifier.parameters()} == {torch.float32}
    losses = [float(row["train_loss"]) for row in rows(tmp_path / "out")]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "hinge"}, "one_hot is trained with cross_entropy, got 'hinge'"),
        ({"encoding": {"kind": "onehot"}}, "unknown kind 'onehot'; there are one_hot"),
        ({"encoding": {"kind": "multi_label"}}, "does not fit a data set whose task is single-label"),
        ({"encoding": {"kind": "codebook", "code": "bch"}, "loss": "hinge"}, "needs code: hadamard"),
        ({"training": {"epoch": 3}}, "no option 'epoch'; there are epochs"),
        ({"training": {"epochs": -1}}, "epochs must be above 0"),
        ({"training": {"epochs": 0}}, "with epochs: 0 a network is taken as it is: give it published weights"),
        ({"training": {"weight_decay": -1}}, "weight_decay must not be negative"),
        ({"training": {"optimizer": "lion"}}, "optimizer must be adam, adamw, sgd"),
        ({"training": {"schedule": "cosine"}}, "schedule must be constant or one_cycle"),
        ({"training": {"precision": "fp16"}}, "precision must be float32, tf32, bf16, got 'fp16'"),
        (
            {"training": {"augment": {"flip": True}}},
            "augment: no option 'flip'; there are rotate, scale, shift",
        ),
        ({"training": {"augment": {"scale": 1.5}}}, "scale below 1"),
        ({"network": {"name": "vgg16_ensemble", "width": 1 / 32}}, "needs the folder of the trained network"),
        ({"network": {"name": "frozen_features"}}, "needs the folder of the trained network"),
    ],
)
def test_a_wrong_entry_says_what_is_allowed(change, message, data, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_model("one", {**ONE_HOT, **change}, data / "single", tmp_path / "o", tmp_path / "s", SEED, "cpu")
    assert not (tmp_path / "o").exists()


def test_a_bottom_must_fit_and_be_wanted(one_hot, data, tmp_path):
    rest = (tmp_path / "o", tmp_path / "s", SEED, "cpu", one_hot)
    with pytest.raises(ValueError, match="vgg16 takes no layers of a trained network"):
        train_model("one", ONE_HOT, data / "single", *rest)
    with pytest.raises(ValueError, match=r"takes images of shape \[1, 32, 32\], not \[3, 32, 32\]"):
        train_model("two", {**MULTI, "network": {"name": "frozen_features"}}, data / "multi", *rest)
    train_model("multi", MULTI, data / "multi", tmp_path / "multi", tmp_path / "s", SEED, "cpu")
    ensemble = {**MULTI, "network": ECOC["network"]}
    with pytest.raises(ValueError, match="shares the first layers of a VGG16"):
        train_model("three", ensemble, data / "multi", *rest[:4], tmp_path / "multi")


def test_augmentation_moves_by_what_it_says():
    images = torch.zeros(64, 1, 9, 9)
    images[:, :, 4, 4] = 1.0
    torch.manual_seed(0)
    still = Augmentation()(images)
    torch.testing.assert_close(still, images)
    moved = Augmentation(shift=2)(images)
    place = torch.arange(9.0)
    mass = moved.sum((1, 2, 3))
    centre = (moved.sum((1, 2)) * place).sum(1) / mass
    assert mass.allclose(torch.ones(64), atol=1e-4)
    assert (centre - 4).abs().max() <= 2 and (centre - 4).abs().max() > 1


def test_batches_differ_by_epoch_and_repeat_by_seed():
    batches = EpochBatches(10, 4, seed=3)
    first = list(batches)
    assert len(batches) == len(first) == 2 and len(set(chain.from_iterable(first))) == 8
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
    assert len(list(EpochBatches(3, 64, seed=3))) == 1


def test_options_have_defaults():
    assert TrainingOptions.from_dict({}) == TrainingOptions()
