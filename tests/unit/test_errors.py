"""What a user is told when something is wrong."""

import math

import pytest
import torch

from tests.conftest import Affine
from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import JMA, LOTS, CarliniWagner, Context, ECOCAttack, build

ONE_HOT = Classifier(Affine(torch.eye(4), torch.zeros(4)), OneHot(4))
MULTI = Classifier(Affine(torch.eye(4), torch.zeros(4)), MultiLabel(4))
IMAGES = torch.full((2, 1, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (255 * IMAGES, ValueError, r"lie in \[0, 1\], got 127.5 to 127.5.*divide grey levels by 255"),
        (IMAGES - 1, ValueError, r"lie in \[0, 1\].*Classifier\(mean"),
        (IMAGES[0], ValueError, r"\(batch, channels, height, width\), got \(1, 2, 2\)"),
        ((255 * IMAGES).byte(), TypeError, "float tensor.*uint8: divide by 255"),
        ([[0.5]], TypeError, "float tensor.*got list"),
        (torch.stack([IMAGES[0], IMAGES[0] * torch.nan]), ValueError, r"NaN or infinity at batch positions \[1\]"),
    ],
)
def test_wrong_images(images, error, message):
    with pytest.raises(error, match=message):
        JMA()(ONE_HOT, images, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("classifier", "targets", "message"),
    [
        (ONE_HOT, torch.tensor([0]), r"2 class indices \(shape \(2,\), integers\), got shape \(1,\)"),
        (ONE_HOT, torch.tensor([0.0, 1.0]), "integers"),
        (ONE_HOT, torch.tensor([0, 4]), "from 0 to 3, got 0 to 4"),
        (MULTI, torch.tensor([0, 1]), r"0/1 label vectors of shape \(2, 4\), got \(2,\)"),
        (MULTI, torch.full((2, 4), 2), "only 0 and 1"),
        (ONE_HOT, None, "targeted attack: give targets"),
    ],
)
def test_wrong_targets(classifier, targets, message):
    with pytest.raises(ValueError, match=message):
        JMA()(classifier, IMAGES, targets)


def test_float_noise_is_clipped_and_said():
    with pytest.warns(UserWarning, match="clipped"):
        result = JMA()(
            ONE_HOT, torch.full((1, 1, 2, 2), 1 + 3e-8, dtype=torch.float64).float() + 1e-5, torch.tensor([1])
        )
    assert result.adversarials.max() <= 1


def test_network_and_encoding_must_fit():
    with pytest.raises(ValueError, match=r"logits of shape \(2, 4\).* OneHot has 3 outputs"):
        JMA()(Classifier(Affine(torch.eye(4), torch.zeros(4)), OneHot(3)), IMAGES, torch.tensor([0, 1]))


def test_missing_context_is_named():
    with pytest.raises(ValueError, match=r"LOTS needs context\.reference_logits"):
        LOTS()(ONE_HOT, IMAGES, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"shape \(2, 4\), got \(1, 4\)"):
        LOTS()(ONE_HOT, IMAGES, torch.tensor([1, 1]), context=Context(reference_logits=torch.zeros(1, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JMA(step_size=-1), "JMA: step_size must be > 0, got -1"),
        (lambda: JMA(step_size="abc"), "JMA: step_size must be a finite number, got 'abc'"),
        (lambda: JMA(step_size=float("nan")), "step_size must be a finite number, got nan"),
        (lambda: JMA(max_iterations=0), "max_iterations must be > 0"),
        (lambda: CarliniWagner(initial_constant=1e308), "CarliniWagner: initial_constant must be at most 2.53, got 1e"),
        (lambda: JMA(max_iterations=10**400), "max_iterations must be at most"),
        (lambda: JMA(margin=math.inf), "margin must be a finite number, got inf"),
        (lambda: JMA(margin=-0.1), "margin must be a number >= 0"),
        (lambda: JMA(search="none"), "search must be one of paper, inert"),
        (lambda: JMA(keep="all"), "keep must be one of adversarial, highest_psnr"),
        (lambda: JMA(time_limit=0), "time_limit must be > 0"),
        (lambda: CarliniWagner(start_scale=1.0), r"start_scale must lie in \(0, 1\)"),
        (lambda: CarliniWagner(confidence=-1), "confidence must be a number >= 0"),
        (lambda: ECOCAttack(factor=0), "factor must be > 0"),
        (lambda: LOTS(samples=0), "samples must be > 0"),
        (lambda: build({"attack": "deepfool"}), "unknown attack 'deepfool': carlini_wagner, ecoc_attack, gradient"),
        (lambda: build({"attack": "jma", "step_sise": 1}), "no parameter 'step_sise'.*step_size"),
        (lambda: Classifier(torch.nn.Identity(), OneHot(2), std=[0.0]), "std must be positive"),
        (lambda: Classifier(torch.nn.Identity(), OneHot(2), [0.1, 0.2], [1.0, 1.0, 1.0]), "one value a channel"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_public_name():
    import wolfe

    with pytest.raises(AttributeError, match="no attribute 'Clasifier'; it offers Classifier"):
        _ = wolfe.Clasifier


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"attack": "jma", "max_iterations": 2.5}, "max_iterations must be a whole number, got 2.5"),
        ({"attack": "jma", "clip": "nope"}, "clip must be true or false, got 'nope'"),
        ({"attack": "sema_ml", "use_graph": "no"}, "use_graph must be true or false"),
        ({"attack": "lots", "samples": 1.5}, "samples must be a whole number"),
        ({"attack": "mla_lp", "gap": 2}, "gap must be <= 0.5, got 2"),
    ],
)
def test_parameters_of_a_wrong_type_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        build(row)


def test_the_right_types_are_taken():
    assert build({"attack": "lots", "samples": None, "max_iterations": 3, "round": False}).samples is None
