"""Training at scale: batches that memory does not hold, and sets that are decoded while they are used."""

from __future__ import annotations

import csv
import threading

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.test_training import ONE_HOT, SEED, TRAINING, KilledError, bars, killed_after, read
from wolfe.classifier import Classifier
from wolfe.data import open_split
from wolfe.data.writer import write_source
from wolfe.encoding import OneHot
from wolfe.experiments.detection_networks import logits
from wolfe.experiments.softmax_images import _right
from wolfe.experiments.targets import read_targets, write_targets
from wolfe.experiments.transfer import _Judge, _logits
from wolfe.files import sha256
from wolfe.models import feed as feed_module
from wolfe.models import load_classifier, train_model
from wolfe.models.evaluation import evaluate
from wolfe.models.feed import EpochBatches, Feed, OrderedBatches, loader
from wolfe.models.folding import for_attack
from wolfe.models.frozen_features import FeatureFeed, FrozenFeatures
from wolfe.models.learner import Learner
from wolfe.models.portions import Portions, Start
from wolfe.models.vgg import VGG16

PLAIN = {**ONE_HOT, "network": {"name": "vgg16", "width": 1 / 32, "batch_norm": False, "dropout": 0.0}}
NAMES = ("weights.safetensors", "training.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bars")
    write_source("bars", "bars", bars(1, "single"), folder / "bars")
    return folder / "bars"


def room_for(images, monkeypatch):
    """A VGG16 runs out of memory at the end of a pass with more images; returns the sizes that it was given."""
    given, real = [], VGG16.forward

    def limited(self, x):
        given.append(len(x))
        logits = real(self, x)
        if len(x) > images:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return logits

    monkeypatch.setattr(VGG16, "forward", limited)
    return given


def trained(spec, data, folder):
    train_model("one", spec, data, folder / "out", folder / "store", SEED, "cpu")
    return load_classifier(folder / "out").net.state_dict()


@pytest.mark.filterwarnings("ignore:memory is used up")
def test_a_batch_that_memory_does_not_hold_is_learned_in_parts(data, tmp_path, monkeypatch):
    spec = {**PLAIN, "training": {**TRAINING, "schedule": "constant", "optimizer": "sgd"}}
    whole = trained(spec, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        given = room_for(5, patch)
        parts = trained(spec, data, tmp_path / "parts")
    assert given[:3] == [16, 8, 4] and given[3:7] == [4, 4, 4, 4] and given.count(16) == 1
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-3, atol=1e-5)
    with (tmp_path / "parts" / "out" / "training.csv").open() as stream:
        assert [row["micro_batch"] for row in csv.DictReader(stream)] == ["4", "4", "4"]
    assert read(tmp_path / "parts" / "out", "metrics.json")["micro_batch"] == 4
    assert "micro_batch" not in read(tmp_path / "whole" / "out", "metrics.json")


@pytest.mark.filterwarnings("ignore:memory is used up")
def test_a_failed_try_leaves_no_trace(data, tmp_path, monkeypatch):
    """Statistics of batch normalisation, and what dropout draws, are those of a training that began with the parts."""
    spec = {**ONE_HOT, "network": {"name": "vgg16", "width": 1 / 32, "dropout": 0.3}}
    with monkeypatch.context() as patch:
        room_for(4, patch)
        trained(spec, data, tmp_path / "found")
    real = Learner.__init__

    def small(self, classifier, options, classes, seed, loss):
        real(self, classifier, options, classes, seed, loss)
        self.portions.size = self.seen.size = 4

    monkeypatch.setattr(Learner, "__init__", small)
    trained(spec, data, tmp_path / "known")
    files = [tmp_path / name / "out" / NAMES[0] for name in ("found", "known")]
    assert sha256(files[0]) == sha256(files[1])


def test_one_image_that_does_not_fit_is_an_error(data, tmp_path, monkeypatch):
    room_for(0, monkeypatch)
    with (
        pytest.warns(UserWarning, match=r"memory is used up .*goes on with [1248] at a time"),
        pytest.raises(MemoryError, match="one at a time does not fit into memory either"),
    ):
        trained(PLAIN, data, tmp_path)


def test_other_errors_are_not_taken_for_memory(data, tmp_path, monkeypatch):
    def wrong(self, x):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(VGG16, "forward", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        trained(PLAIN, data, tmp_path)


@pytest.mark.filterwarnings("ignore:memory is used up")
def test_evaluation_and_features_go_through_in_parts(data, monkeypatch):
    torch.manual_seed(0)
    network, feed = VGG16(1, 3, 32, width=1 / 32), Feed(open_split(data, "train"))
    head = FrozenFeatures(1, 3, 32, backbone=ONE_HOT["network"], hidden=8)
    classifiers = Classifier(network, OneHot(3), [0.4], [0.3]), Classifier(head, OneHot(3), [0.4], [0.3])
    classifiers[1].eval()
    scores, features = evaluate(classifiers[0], feed, 3), FeatureFeed(feed, classifiers[1])
    given = room_for(20, monkeypatch)
    assert evaluate(classifiers[0], feed, 3) == scores
    assert given == [64, 32, 16, 16, 16, 16]
    del given[:]
    found = FeatureFeed(feed, classifiers[1])
    assert given == [64, 32, 16, 16, 16, 16]
    torch.testing.assert_close(found[list(range(64))][0], features[list(range(64))][0])


@pytest.mark.filterwarnings("ignore:memory is used up")
def test_the_stages_forward_passes_go_through_in_parts(data, tmp_path, monkeypatch):
    trained(PLAIN, data, tmp_path)
    classifier, split = load_classifier(tmp_path / "out"), open_split(data, "test")
    images = split.images(range(len(split)))
    judge, order = _Judge("one", "", classifier, {}), np.arange(len(split))
    stages = {
        "targets": lambda: read_targets(write_targets_of(tmp_path, data)).to_json(),
        "transfer": lambda: _logits(judge, images, 16).tolist(),
        "softmax": lambda: list(_right({"one": classifier}, split, order)),
        "detection": lambda: logits(classifier, images).tolist(),
    }
    whole = {name: stage() for name, stage in stages.items()}
    given = room_for(5, monkeypatch)
    for name, stage in stages.items():
        del given[:]
        found = stage()
        assert max(given) > 5 and given[-1] <= 5, name
        if name in ("transfer", "detection"):
            np.testing.assert_allclose(found, whole[name], rtol=1e-4, atol=1e-6)
        else:
            assert found == whole[name]


def write_targets_of(folder, data):
    rule = {"rule": "other_class", "images": 6, "only_correct": False}
    write_targets(folder / "out", data, rule, folder / "targets.parquet", SEED, "cpu")
    return folder / "targets.parquet"


@pytest.mark.filterwarnings("ignore:memory is used up")
def test_a_classifier_is_made_ready_for_attacks_with_as_many_images_as_fit(monkeypatch):
    torch.manual_seed(0)
    classifier = Classifier(VGG16(3, 5, 32, width=1 / 32), OneHot(5), [0.5] * 3, [0.5] * 3).eval()
    images = torch.rand(16, 3, 32, 32)
    whole = for_attack(classifier, images)
    given = room_for(4, monkeypatch)
    parts = for_attack(classifier, images)
    assert given[:3] == [16, 8, 4] and max(given[3:]) == 4
    assert all(torch.equal(value, parts.state_dict()[key]) for key, value in whole.state_dict().items())


@pytest.mark.filterwarnings("ignore:memory is used up")
def test_a_small_last_batch_does_not_make_the_next_ones_small():
    portions, given = Portions(), []

    def function(images):
        given.append(len(images))
        if len(images) > 8:
            raise MemoryError("full")
        return images.sum(1)

    for images in (16, 3, 16):
        values = torch.rand(images, 2)
        torch.testing.assert_close(portions.joined(function, values), values.sum(1))
    assert given == [16, 8, 8, 3, 8, 8] and portions.size == 8


def test_a_start_puts_statistics_and_draws_back():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    frozen = nn.BatchNorm2d(1).eval()
    both, images = nn.Sequential(frozen, network), torch.rand(4, 1, 8, 8)
    start = Start(both, images.device)
    first = both(images)
    changed = network[1].running_mean.clone()
    start.restore()
    assert network[1].num_batches_tracked.item() == 0 and not network[1].running_mean.any()
    assert torch.equal(both(images), first) and torch.equal(network[1].running_mean, changed)


def test_large_sets_train_as_small_ones(data, tmp_path, monkeypatch):
    trained(ONE_HOT, data, tmp_path / "kept")
    monkeypatch.setattr(feed_module, "MEMORY_LIMIT", 200_000)
    with monkeypatch.context() as patch:
        killed_after(1, patch)
        with pytest.raises(KilledError):
            trained(ONE_HOT, data, tmp_path / "read")
    trained(ONE_HOT, data, tmp_path / "read")
    for name in NAMES[:1]:
        assert sha256(tmp_path / "read" / "out" / name) == sha256(tmp_path / "kept" / "out" / name)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]


def test_what_comes_next_is_decoded_ahead_and_in_order(data, monkeypatch):
    whole = Feed(open_split(data, "train"))
    monkeypatch.setattr(feed_module, "MEMORY_LIMIT", 200_000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    large = Feed(open_split(data, "train"))
    assert (whole.bytes_to_decode, large.bytes_to_decode) == (0, 4 * 32 * 32)
    batches = EpochBatches(64, 8, seed=1)
    assert loader(large, batches).ahead == 3
    assert loader(large, OrderedBatches(64, 64)).ahead == 1, "as many as memory holds"
    for one, other in zip(loader(whole, batches), loader(large, batches), strict=True):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    asked, real = [], EpochBatches.__iter__
    monkeypatch.setattr(EpochBatches, "__iter__", lambda self: (asked.append(item) or item for item in real(self)))
    run = iter(loader(large, batches))
    next(run)
    assert len(asked) == 4, "the one in use and three more"
    run.close()
    assert large.statistics() == whole.statistics()


def test_an_image_that_cannot_be_decoded_stops_the_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr(feed_module, "MEMORY_LIMIT", 0)

    def broken(self, indices):
        raise OSError("image file is truncated")

    monkeypatch.setattr(Feed, "__getitem__", broken)
    with pytest.raises(OSError, match="image file is truncated"):
        trained(ONE_HOT, data, tmp_path)
