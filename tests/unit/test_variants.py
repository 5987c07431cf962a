"""The options that repeat what released code does where it differs from its paper, beside the paper's way."""

import dataclasses
import itertools

import pytest
import torch

from tests.conftest import ENCODINGS, Affine
from wolfe import Classifier, MultiLabel
from wolfe.attacks import JMA, LOTS, Context, ECOCAttack, MLCarliniWagner, Status
from wolfe.attacks import problem as books

SHORT = {"learning_rate": 0.05, "max_iterations": 20, "search_steps": 1, "abort_early": False}


def norms(perturbation):
    return perturbation.flatten(1).norm(dim=1)


def identity(*bias: float) -> Classifier:
    """Logits: the first value of the image, once a label, plus a bias each; the second label counts downwards."""
    weight = torch.tensor([[1.0], [-1.0]])[: len(bias)]
    return Classifier(Affine(weight, torch.tensor(bias)), MultiLabel(len(bias)))


class Clock:
    """A time that moves by one second each time it is read."""

    def __init__(self) -> None:
        self._times = itertools.count()

    def perf_counter(self):
        return float(next(self._times))


def test_jma_searches_from_the_original(convolutional):
    """The image lies on the straight way from the original to the full step, at the least 64th that arrives."""
    classifier, images, targets = convolutional
    full = JMA(step_size=0.2, max_iterations=40, search="inert")(classifier, images, targets)
    result = JMA(step_size=0.2, max_iterations=40, search_from="original")(classifier, images, targets)
    assert torch.equal(result.success, full.success)
    assert torch.equal(result.iterations, full.iterations)
    done = result.success
    way, shift = full.adversarials[done] - images[done], result.adversarials[done] - images[done]
    share = norms(shift) / norms(way)
    assert torch.allclose(shift, share[:, None, None, None] * way, atol=1e-5)
    assert torch.allclose(64 * share, (64 * share).round(), atol=1e-2)
    assert share.min() < 1
    before = images[done] + (share - 1 / 64)[:, None, None, None] * way
    with torch.no_grad():
        assert not classifier.encoding.reached(classifier(before), targets[done]).any()


def test_both_searches_are_one_where_the_first_step_arrives(convolutional):
    classifier, images, targets = convolutional
    present = JMA(step_size=1.0)(classifier, images, targets)
    original = JMA(step_size=1.0, search_from="original")(classifier, images, targets)
    at_once = present.first_success == 1
    # Clipped segments differ a little from straight ones: these images are the ones that were not clipped.
    inside = (present.adversarials.flatten(1).amin(dim=1) > 0) & (present.adversarials.flatten(1).amax(dim=1) < 1)
    chosen = at_once & inside
    assert torch.allclose(present.adversarials[chosen], original.adversarials[chosen], atol=1e-5)


@pytest.mark.parametrize("encoding", [ENCODINGS["codebook_tanh"]])
def test_jma_judged_by_logits_takes_one_step_on_an_affine_ecoc_network(affine, encoding):
    """The step is exact in the logits. What tanh makes of it is the verdict's affair, and need not be a success."""
    classifier, images, targets = affine
    result = JMA(step_size=0.01, judge="logits")(classifier, images, targets)
    assert (result.first_success == 1).all()
    assert (result.iterations == 6).all()
    assert (result.vjps == encoding.size).all()
    with torch.no_grad():
        logits = classifier(result.adversarials)
    assert torch.equal(encoding.correlations(logits).argmax(dim=1), targets)
    assert torch.equal(encoding.reached(logits, targets), result.success)
    assert not result.success.all()
    usual = JMA(step_size=0.01)(classifier, images, targets)
    assert (usual.iterations > 6).any()


def test_other_encodings_decide_alike_by_logits_and_outputs(convolutional, encoding):
    if getattr(encoding, "activation", "none") == "tanh":
        return
    classifier, images, targets = convolutional
    usual = JMA(step_size=0.2, max_iterations=20)(classifier, images, targets)
    judged = JMA(step_size=0.2, max_iterations=20, judge="logits")(classifier, images, targets)
    assert torch.equal(usual.adversarials, judged.adversarials)
    assert torch.equal(usual.first_success, judged.first_success)


def test_lots_as_released_goes_on_and_returns_its_nearest_success():
    """One logit x - 0.52 from 0.5: there at 133/255 after 5 steps, as without the option, but 30 are made."""
    context = Context(reference_logits=torch.tensor([[1.0]]))
    image, target = torch.tensor([[[[0.5]]]]), torch.tensor([[1]])
    attack = LOTS(max_iterations=30, as_released=True)
    result = attack(identity(-0.52), image, target, context=context)
    assert result.success.all()
    assert result.adversarials.item() == pytest.approx(133 / 255)
    assert result.iterations.item() == 5
    assert result.first_success.item() == 5
    assert result.vjps.item() == 31
    usual = dataclasses.replace(attack, as_released=False)(identity(-0.52), image, target, context=context)
    assert torch.equal(usual.adversarials, result.adversarials)
    assert usual.vjps.item() == 6


def test_lots_as_released_fails_where_its_last_image_does():
    """The target lies between 0.52 and 0.56, and the reference beyond: the way leads through and out again."""
    context = Context(reference_logits=torch.tensor([[1.0, -1.0]]))
    image, target = torch.tensor([[[[0.5]]]]), torch.tensor([[1, 1]])
    attack = LOTS(max_iterations=30, as_released=True)
    result = attack(identity(-0.52, 0.56), image, target, context=context)
    assert result.status == [Status.EXHAUSTED]
    assert result.first_success.item() == 5
    assert result.iterations.item() == 30
    assert result.adversarials.item() == pytest.approx(158 / 255)
    usual = dataclasses.replace(attack, as_released=False)(identity(-0.52, 0.56), image, target, context=context)
    assert usual.success.all()


def test_lots_as_released_is_the_usual_one_where_labels_are_classes(convolutional, encoding):
    classifier, images, targets = convolutional
    context = Context(reference_logits=10 * encoding.signs(targets))
    usual = LOTS(max_iterations=100)(classifier, images, targets, context=context)
    released = LOTS(max_iterations=100, as_released=True)(classifier, images, targets, context=context)
    if encoding.multi_label:
        assert (released.vjps == 101).all()
        both = usual.success & released.success
        assert both.any()
        assert (norms(released.adversarials - images) <= norms(usual.adversarials - images) + 1e-6)[both].all()
    else:
        assert torch.equal(usual.adversarials, released.adversarials)
        assert torch.equal(usual.vjps, released.vjps)


def test_an_inert_constant_has_no_effect_on_ml_carlini_wagner(convolutional):
    classifier, images, targets = convolutional
    runs = {
        (constant, inert): MLCarliniWagner(**SHORT, initial_constant=constant, inert_constant=inert)(
            classifier, images, targets
        ).adversarials
        for constant in (0.01, 5.0)
        for inert in (False, True)
    }
    assert torch.equal(runs[0.01, True], runs[5.0, True])
    assert not torch.allclose(runs[0.01, False], runs[5.0, False])


def test_ml_carlini_wagner_may_look_at_the_clock_between_runs_only(monkeypatch):
    classifier, image, target = identity(-2.0), torch.tensor([[[[0.5]]]]), torch.tensor([[1]])
    attack = MLCarliniWagner(**{**SHORT, "search_steps": 3}, time_limit=5.0)
    monkeypatch.setattr(books, "time", Clock())
    usual = attack(classifier, image, target)
    assert usual.status == [Status.TIMED_OUT]
    assert usual.forwards.item() < 10
    released = dataclasses.replace(attack, clock="runs")(classifier, image, target)
    assert released.status == [Status.TIMED_OUT]
    # The look at the start, and a run in full.
    assert released.forwards.item() == 1 + 20


@pytest.mark.parametrize("encoding", [ENCODINGS["codebook_tanh"]])
def test_the_factor_of_the_ecoc_attack_is_a_factor_of_its_constant(convolutional, encoding):
    classifier, images, targets = convolutional
    assert encoding is classifier.encoding
    twice = ECOCAttack(**SHORT, initial_constant=0.5, factor=2.0)(classifier, images, targets)
    doubled = ECOCAttack(**SHORT, initial_constant=1.0)(classifier, images, targets)
    assert torch.equal(twice.adversarials, doubled.adversarials)


@pytest.mark.parametrize("wrong", [{"search_from": "start"}, {"judge": "bits"}])
def test_wrong_words_are_named(wrong):
    with pytest.raises(ValueError, match=f"JMA: {next(iter(wrong))} must be one of"):
        JMA(**wrong)


def test_an_image_whose_jacobian_loses_rank_is_given_up_only_if_asked():
    weight = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    classifier = Classifier(Affine(weight, torch.full((3,), -0.4)), MultiLabel(3))
    images, targets = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, 3, dtype=torch.long)
    assert JMA()(classifier, images, targets).success.all()
    given_up = JMA(full_rank=True)(classifier, images, targets)
    assert given_up.status == [Status.INFEASIBLE]
    full = Classifier(Affine(weight[[0, 2]], torch.full((2,), -0.4)), MultiLabel(2))
    assert JMA(full_rank=True)(full, images, targets[:, :2]).success.all()
