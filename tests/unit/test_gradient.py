import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Affine
from wolfe import Classifier, Codebook, MultiLabel, OneHot
from wolfe.attacks import IFGS, Context, GradientAttack, Status, build

LOSSES = ("cross_entropy", "cross_entropy_sign", "logit", "m_logit")
SHARE = 1 / (1 + math.exp(-0.82))
"""Softmax of the first of the logits 1.42 and 0.6."""


def affine(weight, bias, encoding, dtype=torch.float64):
    network = Affine(torch.tensor(weight, dtype=dtype), torch.tensor(bias, dtype=dtype))
    return Classifier(network, encoding).to(dtype)


def picture(*values: float, dtype=torch.float64):
    """One image (1, 1, 1, width)."""
    return torch.tensor(values, dtype=dtype).view(1, 1, 1, -1)


def watched(attack, classifier, images, targets):
    """The result, and what the observer was told."""
    seen = []
    result = attack(classifier, images, targets, context=Context(observer=seen.append))
    return result, seen


@pytest.fixture
def two_classes():
    """Logits 2 x_1 and 2 x_2, the image (0.71, 0.3), which is class 0, and the target 1."""
    return affine([[2.0, 0.0], [0.0, 2.0]], [0.0, 0.0], OneHot(2)), picture(0.71, 0.3), torch.tensor([1])


@pytest.mark.parametrize(
    ("loss", "source"),
    [
        ("cross_entropy", (-2 * SHARE, 2 * SHARE)),
        ("cross_entropy_sign", (-1, 1)),
        ("logit", (0, 2)),
        ("m_logit", (-2, 2)),
    ],
)
def test_first_step_by_hand(two_classes, loss, source):
    classifier, image, target = two_classes
    expected = torch.tensor(source, dtype=torch.float64)
    length = expected.norm()
    for setting, step in (("equal_multiplier", 0.01 * expected), ("equal_perturbation", 0.02 * expected / length)):
        attack = GradientAttack(loss=loss, setting=setting, multiplier=0.01, step_length=0.02, max_iterations=1)
        result, seen = watched(attack, classifier, image, target)
        assert torch.allclose(seen[0].gradient.flatten(), expected, rtol=1e-12)
        assert torch.allclose((result.adversarials - image).flatten(), step, rtol=1e-12)
        assert (result.forwards.item(), result.vjps.item(), result.iterations.item()) == (3, 2, 1)


@pytest.mark.parametrize(("loss", "steps"), [("logit", 5), ("m_logit", 3), ("cross_entropy", 3)])
def test_steps_to_the_target_by_hand(two_classes, loss, steps):
    """The lead 2 (x_1 - x_2) is 0.82: a step of 0.1 of the logit takes 0.2 off it, those of the others 0.2 sqrt(2)."""
    result, seen = watched(GradientAttack(loss=loss, step_length=0.1), *two_classes)
    assert result.status == [Status.FOUND]
    assert (result.iterations.item(), result.first_success.item()) == (steps, steps)
    assert [step for told in seen for step in told.step.tolist()] == list(range(steps + 1))


def test_m_logit_ends_at_its_confidence_and_without_one_in_the_corner(two_classes):
    classifier, image, target = two_classes
    options = {"loss": "m_logit", "setting": "equal_multiplier", "multiplier": 0.01, "stop_at_success": False}
    # A step takes 0.08 off the lead of 0.82: after 17 of them it is -0.54.
    result, seen = watched(GradientAttack(**options, confidence=0.5), classifier, image, target)
    assert result.iterations.item() == 17
    assert seen[-1].gradient.abs().max() == 0
    assert result.first_success.item() == 11
    endless, told = watched(GradientAttack(**options, confidence=None), classifier, image, target)
    assert endless.adversarials.flatten().tolist() == [0, 1]
    assert told[-1].gradient.flatten().tolist() == [-2, 2]
    assert endless.iterations.item() == 36


def test_bits_are_pushed_together_and_the_worst_is_pulled():
    """Logits (x - 0.5) per bit; the target wants the bits 1, 0, 1 and the image shows 0, 1, 1."""
    weight = torch.eye(3).tolist()
    word = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])
    image = picture(0.2, 0.6, 0.9)
    for encoding, target in (
        (MultiLabel(3), torch.tensor([[1, 0, 1]])),
        (Codebook(word, activation="none"), torch.tensor([0])),
    ):
        classifier = affine(weight, [-0.5] * 3, encoding)
        _, seen = watched(GradientAttack(loss="logit", max_iterations=1), classifier, image, target)
        assert seen[0].gradient.flatten().tolist() == [1, -1, 1]
        _, seen = watched(GradientAttack(loss="m_logit", max_iterations=1), classifier, image, target)
        # Of three labels the first is furthest off; two words are told apart by the bits in which they differ.
        assert seen[0].gradient.flatten().tolist() == ([1, 0, 0] if encoding.multi_label else [2, -2, 0])


def test_logits_of_a_code_are_not_flattened_by_its_activation():
    word = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    classifier = affine([[400.0, 0.0], [0.0, 400.0]], [-100.0, -100.0], Codebook(word))
    image, target = picture(0.75, 0.75), torch.tensor([1])
    for loss, length in (("cross_entropy", 0.0), ("logit", 400 * math.sqrt(2)), ("m_logit", 800 * math.sqrt(2))):
        _, seen = watched(GradientAttack(loss=loss, max_iterations=1), classifier, image, target)
        assert seen[0].gradient.norm().item() == pytest.approx(length)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(LOSSES), st.integers(0, 1000), st.floats(1e-3, 0.05))
def test_steps_of_equal_perturbation_are_equally_long(loss, seed, length):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 12, dtype=torch.float64, generator=generator)
    classifier = Classifier(Affine(weight, torch.zeros(4, dtype=torch.float64)), OneHot(4)).double()
    images = 0.3 + 0.4 * torch.rand(3, 3, 2, 2, dtype=torch.float64, generator=generator)
    targets = (classifier.decide(images) + 1) % 4
    attack = GradientAttack(loss=loss, step_length=length, max_iterations=5, stop_at_success=False)
    _, seen = watched(attack, classifier, images, targets)
    for before, after in pairwise(seen):
        moved = (after.images - before.images).flatten(1).norm(dim=1)
        assert torch.allclose(moved, torch.full_like(moved, length))
    usual = GradientAttack(loss=loss, max_iterations=1)(classifier, images, targets)
    moved = (usual.adversarials - images).flatten(1).norm(dim=1)
    assert torch.allclose(moved, torch.full_like(moved, 0.5 / 255 * math.sqrt(12)))


def test_a_source_too_small_to_be_squared_still_has_a_direction():
    """Slopes of 1e-30: their squares are 0 in single precision, and so is what they add to a pixel."""
    weight = [[1e-30, 0.0], [0.0, 1e-30]]
    classifier = affine(weight, [0.0, 0.0], OneHot(2), torch.float32)
    image, target = picture(0.5, 0.25, dtype=torch.float32), torch.tensor([1])
    equal = GradientAttack(loss="m_logit", step_length=0.1, max_iterations=1)(classifier, image, target)
    assert (equal.adversarials - image).norm().item() == pytest.approx(0.1)
    plain, seen = watched(GradientAttack(loss="m_logit", setting="equal_multiplier"), classifier, image, target)
    assert torch.equal(plain.adversarials, image)
    assert plain.status == [Status.EXHAUSTED]
    assert (plain.iterations.item(), len(seen)) == (0, 1)
    assert seen[0].gradient.abs().min() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_all_steps_are_made_on_request(convolutional, loss):
    classifier, images, targets = convolutional
    options = {"loss": loss, "step_length": 0.1, "max_iterations": 60, "confidence": None}
    stopping = GradientAttack(**options)(classifier, images, targets)
    going, seen = watched(GradientAttack(**options, stop_at_success=False), classifier, images, targets)
    assert stopping.success.any()
    assert torch.equal(stopping.iterations[stopping.success], stopping.first_success[stopping.success])
    assert torch.equal(going.first_success, stopping.first_success)
    assert (going.iterations == 60).all()
    assert len(seen) == 61
    assert torch.equal(seen[-1].images, going.adversarials)


def test_rounded_images_have_whole_grey_levels(convolutional):
    classifier, images, targets = convolutional
    attack = GradientAttack(loss="m_logit", step_length=0.1, max_iterations=60, round=True)
    result = attack(classifier, images, targets)
    levels = 255 * result.adversarials
    assert result.success.any()
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    # Steps of which every part is under half a level lead nowhere.
    still = GradientAttack(step_length=1e-4, round=True)(classifier, (255 * images).round() / 255, targets)
    assert (still.iterations == 0).all()


def test_ifgs_by_hand():
    """Logits 0.6 and x: from 0.5 the target is 25.5 levels off; steps of 10 levels, a ball of 24, then of 30."""
    classifier = affine([[0.0], [1.0]], [0.6, 0.0], OneHot(2))
    image, target = picture(0.5), torch.tensor([1])
    near = IFGS(radius=24, grey_levels=10)(classifier, image, target)
    assert near.adversarials.item() == pytest.approx(0.5 + 24 / 255)
    assert (near.iterations.item(), near.status) == (3, [Status.EXHAUSTED])
    far = IFGS(radius=30, grey_levels=10, stop_at_success=True)(classifier, image, target)
    assert far.adversarials.item() == pytest.approx(0.5 + 30 / 255)
    assert (far.iterations.item(), far.first_success.item(), far.status) == (3, 3, [Status.FOUND])


def test_ifgs_is_the_sign_of_the_loss_within_a_ball(convolutional):
    classifier, images, targets = convolutional
    steps = {"max_iterations": 12, "stop_at_success": False}
    sign = GradientAttack(loss="cross_entropy_sign", setting="equal_multiplier", multiplier=2 / 255, **steps)
    free, plain = IFGS(radius=100, grey_levels=2, **steps), sign(classifier, images, targets)
    assert torch.allclose(free(classifier, images, targets).adversarials, plain.adversarials, atol=1e-6)
    held = IFGS(radius=5, grey_levels=2, **steps)(classifier, images, targets)
    assert (held.adversarials - images).abs().max().item() == pytest.approx(5 / 255, rel=1e-4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"attack": "gradient", "loss": "hinge"}, "loss must be one of cross_entropy, cross_entropy_sign, logit"),
        ({"attack": "gradient", "setting": "equal"}, "setting must be one of equal_multiplier, equal_perturbation"),
        ({"attack": "gradient", "multiplier": 0}, "multiplier must be > 0"),
        ({"attack": "gradient", "step_length": -1.0}, "step_length must be > 0"),
        ({"attack": "gradient", "confidence": -1}, "confidence must be a number >= 0"),
        ({"attack": "gradient", "max_iterations": 2.5}, "max_iterations must be a whole number"),
        ({"attack": "gradient", "round": 1}, "round must be true or false"),
        ({"attack": "ifgs", "radius": 0}, "radius must be > 0"),
        ({"attack": "ifgs", "grey_levels": 0}, "grey_levels must be > 0"),
        ({"attack": "lbfgs", "initial_constant": 0}, "initial_constant must be > 0"),
        ({"attack": "lbfgs", "search_steps": 0}, "search_steps must be > 0"),
    ],
)
def test_wrong_parameters(row, message):
    with pytest.raises(ValueError, match=message):
        build(row)


def test_rows_can_leave_the_confidence_out():
    assert build({"attack": "gradient", "confidence": None, "loss": "m_logit"}).confidence is None
