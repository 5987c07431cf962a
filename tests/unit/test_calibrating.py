"""Calibrations: what is decided from which times, what is kept of them, and where they are used."""

import copy
import json
import time
from dataclasses import replace

import pytest
import torch

from tests.conftest import Affine
from tests.unit.test_jacobian import Cube, OnceCube
from wolfe import Classifier, OneHot
from wolfe.attacks import JMA
from wolfe.attacks.linear_step import LinearSteps
from wolfe.linear import Linearisation
from wolfe.linear.calibration import FIXED, Calibration
from wolfe.linear.shrinking import ShrinkingProducts
from wolfe.models import build_network
from wolfe.models.calibrating import calibrate
from wolfe.models.folding import for_attack
from wolfe.models.storage import load_calibration, save_calibration

MEASURED = Calibration("cpu", "2.13.0", together=4096, vectorised_from=16, push="double_backward", push_cost=1.5)


class Through(Affine):
    """An affine network behind a layer."""

    layer = Cube

    def forward(self, images):
        return super().forward(self.layer.apply(images))


def small(layer=None, outputs=20):
    torch.manual_seed(0)
    network = Affine(torch.randn(outputs, 64, dtype=torch.float64), torch.randn(outputs, dtype=torch.float64))
    if layer is not None:
        network.__class__ = type("Through", (Through,), {"layer": layer})
    return Classifier(network, OneHot(outputs)).double(), torch.rand(6, 1, 8, 8, dtype=torch.float64)


class Clock:
    """A clock that products with the Jacobian turn on: seconds for a row, for rows together and for a product."""

    def __init__(self, monkeypatch, row, together, forward, double_backward) -> None:
        self.now, self.passes, costs = 0.0, [], {"forward": forward, "double_backward": double_backward}

        def rows(local, weights):
            count = weights.shape[1]
            self.passes.append(count)
            self.now += row if count == 1 else together[count]
            return weights

        def push_by(local, way, directions):
            self.passes.append(way)
            if costs[way] is None:
                raise RuntimeError("no such derivative")
            self.now += costs[way]

        monkeypatch.setattr(Linearisation, "rows", rows)
        monkeypatch.setattr(Linearisation, "push_by", push_by)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        # Four rows at once take the time of two, sixteen that of four: all at once, and a product takes eight.
        ((8, {4: 16, 16: 32}, 16, 24), {"together": 1 << 20, "vectorised_from": 4, "push": "forward", "push_cost": 8}),
        # Sixteen at once exceed a cache: four at a time.
        ((8, {4: 16, 16: 128}, 16, 8), {"together": 4 * 384, "push": "double_backward", "push_cost": 2}),
        # Only many at once are worth it.
        ((8, {4: 32, 16: 64}, 16, 24), {"together": 1 << 20, "vectorised_from": 16, "push_cost": 4}),
        # One after the other is as fast: fewer than four of so many images together, which is one by one.
        ((8, {4: 32, 16: 128}, 24, 23), {"together": 4 * 384 - 1, "vectorised_from": 4, "push": "forward"}),
        # Layers without one derivative or the other, or with neither.
        ((8, {4: 32, 16: 128}, None, 80), {"push": "double_backward", "push_cost": 10}),
        ((8, {4: 32, 16: 128}, 80, None), {"push": "forward", "push_cost": 10}),
        ((8, {4: 32, 16: 128}, None, None), {"push": "forward", "push_cost": FIXED.push_cost}),
    ],
)
def test_the_fastest_way_is_chosen(monkeypatch, seconds, expected):
    Clock(monkeypatch, *seconds)
    found = calibrate(*small(), seconds=1e6)
    assert {name: getattr(found, name) for name in expected} == expected
    assert (found.device, found.torch) == ("cpu", torch.__version__.split("+")[0])


def test_a_slow_network_is_measured_once_and_a_fast_one_often(monkeypatch):
    slow = Clock(monkeypatch, 5, {4: 20, 16: 80}, 15, 15)
    calibrate(*small())
    assert slow.passes == [1, 4, "forward", "double_backward"]
    fast = Clock(monkeypatch, 0.01, {4: 0.04, 16: 0.16}, 0.03, 0.03)
    calibrate(*small())
    assert fast.passes[:5] == fast.passes[5:10] == [1, 4, 16, "forward", "double_backward"]
    assert fast.now <= 3


@pytest.mark.parametrize("layer", [None, Cube, OnceCube])
def test_a_real_measurement_leaves_the_classifier_as_it_was(layer):
    classifier, images = small(layer)
    classifier.train()
    classifier.calibration = MEASURED
    found = calibrate(classifier, images, seconds=0.05)
    assert classifier.training
    assert classifier.calibration is MEASURED
    assert found.push_cost > 0
    if layer is Cube:
        assert found.push == "double_backward"
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(classifier, images[:0])


@pytest.mark.parametrize("choice", [{"push": "forward"}, {"together": 1 << 20, "vectorised_from": 2}, {}])
def test_attacks_lead_to_the_same_images_however_calibrated(convolutional, choice):
    classifier, images, targets = convolutional
    classifier, images = classifier.double(), images.double()
    attack = JMA(step_size=0.5, max_iterations=10, solver="lazy")
    plain = attack(classifier, images, targets)
    classifier.calibration = replace(MEASURED, **choice)
    found = attack(classifier, images, targets)
    assert torch.equal(found.iterations, plain.iterations)
    assert torch.allclose(found.adversarials, plain.adversarials, atol=1e-9)


def test_a_calibration_reaches_every_linearisation_and_the_copy_for_attacks():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    for name in ("vgg16", "vgg16_ensemble"):
        classifier = Classifier(build_network({"name": name, "width": 1 / 32}, 3, 4, 32), OneHot(4)).eval()
        assert classifier.linearise(images).calibration is FIXED
        classifier.calibration = MEASURED
        assert classifier.linearise(images).calibration == MEASURED
        copied = for_attack(classifier, images)
        assert copied is not classifier
        assert copied.linearise(images).push_cost == 1.5
        assert copy.deepcopy(classifier).calibration == MEASURED
    classifier.calibration = replace(MEASURED, device="cuda")
    assert classifier.linearise(images).calibration is FIXED


def test_a_cheap_product_makes_the_lazy_way_the_choice_earlier():
    """From nothing with one violated constraint: 15 + 2 rows and 3 products; known ones: 2.2 rows each, 2 products."""
    classifier, images = small(outputs=24)
    targets = classifier.decide(images)
    logits = classifier(images)
    for image, target in enumerate(targets):
        logits[image] = -1.0
        logits[image, target], logits[image, (target + 1) % 24] = 0.0, 1.0
    choices = {}
    for cost in (2.0, 2.5, 3.0):
        classifier.calibration = replace(MEASURED, push_cost=cost)
        choices[cost] = LinearSteps(classifier, targets, 0.0, "auto").wants_jacobian(logits, torch.arange(6))
    assert choices == {2.0: False, 2.5: True, 3.0: True}
    classifier.calibration = None
    assert LinearSteps(classifier, targets, 0.0, "auto").wants_jacobian(logits, torch.arange(6))


def test_finished_images_are_left_out_sooner_where_products_are_dear():
    """One of eleven images is idle: carrying it costs 2 rows and a product, leaving it out ten forward passes."""
    classifier, images = small()
    made = []
    for cost in (3.0, 9.0):
        classifier.calibration = replace(MEASURED, push_cost=cost)
        batch = torch.cat([images, images])[:11]
        again = []
        shrinking = ShrinkingProducts(
            classifier.linearise(batch),
            11,
            batch.device,
            lambda place, batch=batch, again=again: again.append(len(place)) or classifier.linearise(batch[place]),
        )
        shrinking.keep(torch.arange(11) != 4)
        shrinking.rows(torch.ones(10, 2, 20, dtype=torch.float64), torch.full((10,), 2))
        made.append(again)
    assert made == [[], [10]]


def test_what_is_kept_is_what_was_measured(tmp_path):
    assert load_calibration(tmp_path) is None
    for calibration in (MEASURED, replace(MEASURED, vectorised_from=None), FIXED):
        save_calibration(calibration, tmp_path)
        assert load_calibration(tmp_path) == calibration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu"}, "device must be one of any, cpu, cuda, got 'tpu'"),
        ({"together": 0}, "together must be a whole number from 1 on, got 0"),
        ({"together": 1.5}, "together must be a whole number"),
        ({"vectorised_from": 0}, "vectorised_from must be a whole number from 1 on, got 0"),
        ({"vectorised_from": True}, "vectorised_from must be"),
        ({"push": "backward"}, "push must be one of forward, double_backward, got 'backward'"),
        ({"push_cost": 0}, "push_cost must be a number above 0, got 0"),
        ({"push_cost": "3"}, "push_cost must be a number above 0, got '3'"),
        ({"rows": 3}, "the entries must be device, push, push_cost, together, torch, vectorised_from"),
    ],
)
def test_a_damaged_calibration_is_refused_by_its_name(tmp_path, change, message):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(MEASURED.to_dict() | change))
    with pytest.raises(ValueError, match=message) as caught:
        load_calibration(tmp_path)
    assert str(path) in str(caught.value)
