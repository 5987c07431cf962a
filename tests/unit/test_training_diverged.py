"""Training that diverges: the best finite weights are kept, or nothing is."""

from __future__ import annotations

import pytest
import torch

from tests.unit.test_training import ONE_HOT, SEED, TRAINING, bars, read, rows
from wolfe.classifier import Classifier
from wolfe.data.writer import write_source
from wolfe.encoding import OneHot
from wolfe.files import sha256
from wolfe.models import load_classifier, save_classifier, train_model
from wolfe.models.learner import Learner
from wolfe.models.vgg import VGG16

STEADY = {**TRAINING, "schedule": "constant"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_source("bars", "bars", bars(1, "single"), folder / "bars")
    return folder / "bars"


def train(data, folder, change):
    spec = {**ONE_HOT, "training": {**STEADY, **change}}
    train_model("one", spec, data, folder / "out", folder / "store", SEED, "cpu")
    return folder / "out"


def test_a_training_that_diverges_at_once_is_an_error_and_leaves_nothing(data, tmp_path):
    for _ in range(2):  # the second one finds nothing to go on from
        with pytest.raises(
            ValueError, match=r"diverged: in epoch 1 .* is nan, .* nan: lower its learning_rate, 1e\+30"
        ):
            train(data, tmp_path, {"learning_rate": 1e30})
        assert not (tmp_path / "out").exists()
        assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_training_that_diverges_later_keeps_the_best_weights_of_before(data, tmp_path, monkeypatch):
    expected = train(data, tmp_path / "short", {"epochs": 1})
    real = Learner.on_train_epoch_start

    def spoiled(self):
        real(self)
        if self.current_epoch == 1:
            with torch.no_grad():
                next(self.classifier.parameters()).fill_(torch.nan)

    monkeypatch.setattr(Learner, "on_train_epoch_start", spoiled)
    with pytest.warns(UserWarning, match="diverged: in epoch 2 .*; the best weights of before are kept"):
        found = train(data, tmp_path / "long", {"epochs": 5})
    metrics = read(found, "metrics.json")
    assert (metrics["epochs"], metrics["best_epoch"], metrics["diverged_epoch"]) == (2, 1, 2)
    assert [row["validation_loss"] == "nan" for row in rows(found)] == [False, True]
    assert sha256(found / "weights.safetensors") == sha256(expected / "weights.safetensors")
    assert all(value.isfinite().all() for value in load_classifier(found).state_dict().values())
    assert "diverged_epoch" not in read(expected, "metrics.json")


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    network = VGG16(1, 3, 32, width=1 / 32)
    network.features[1].running_var[0] = torch.inf
    with pytest.raises(ValueError, match=r"weights of mine are not finite, e.g. features.1.running_var"):
        save_classifier(Classifier(network, OneHot(3), [0.5], [0.5]), tmp_path / "out", {"name": "mine"})
    assert not (tmp_path / "out").exists()
