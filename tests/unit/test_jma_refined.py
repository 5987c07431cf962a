"""The refined attack: exact where the network is affine, never farther than where it first arrived."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from tests.conftest import ENCODINGS, Affine
from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.attacks import JMA, Context, RefinedJMA, Status
from wolfe.attacks.boundary_walk import BoundaryWalk
from wolfe.attacks.local_model import _working_set
from wolfe.attacks.problem import Problem
from wolfe.linear import least_norm

LINEAR = [name for name in ENCODINGS if name != "codebook_tanh"]


def norms(images):
    return images.flatten(1).norm(dim=1)


@pytest.mark.parametrize("encoding", [ENCODINGS[name] for name in LINEAR], ids=LINEAR)
def test_an_affine_network_is_left_at_the_nearest_point(affine):
    """The least-norm point, but for the margin (no image of the fixture comes near the box)."""
    classifier, images, targets = affine
    logits, jacobian = classifier.logits_and_jacobian(images)
    nearest = least_norm(jacobian, logits, classifier.encoding.region(targets)).perturbation
    assert ((images + nearest).clamp(0, 1) == images + nearest).all()
    result = RefinedJMA(margin=1e-4)(classifier, images, targets)
    asked = result.forwards > 1
    assert asked.any() and result.success.all()
    torch.testing.assert_close(norms(result.adversarials - images), norms(nearest), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("encoding", [ENCODINGS[name] for name in LINEAR], ids=LINEAR)
def test_the_margin_is_taken_back(affine, margin):
    """Image by image at the least norm but for a part of the margin, and without any margin too.

    Where several constraints are active the way back to the original image meets one of them first.
    """
    classifier, images, targets = affine
    logits, jacobian = classifier.logits_and_jacobian(images)
    nearest = least_norm(jacobian, logits, classifier.encoding.region(targets)).perturbation
    result = RefinedJMA(margin=margin)(classifier, images, targets)
    assert result.success.all()
    assert (norms(result.adversarials - images) <= (1.001 + 0.7 * margin) * norms(nearest) + 1e-9).all()


def test_not_farther_than_algorithm_1_image_by_image(convolutional):
    """But for a per cent; with tanh outputs there are several optima, and one image ends in a worse one."""
    classifier, images, targets = convolutional
    refined = RefinedJMA()(classifier, images, targets)
    for step_size in (0.02, 0.1):
        plain = JMA(step_size=step_size, max_iterations=300)(classifier, images, targets)
        both = plain.success & refined.success
        assert both.any()
        ratio = norms(refined.adversarials - images)[both] / norms(plain.adversarials - images)[both]
        assert ratio.median() <= 1.0
        assert ratio.max() <= (1.15 if getattr(classifier.encoding, "activation", "") == "tanh" else 1.01)


def test_the_box_is_part_of_the_problem():
    """x1 + x2 >= 1.5 from (0.9, 0.2): (0.9 + 0.2, 0.2 + 0.2) is beyond 1, so (1, 0.5)."""
    classifier = Classifier(Affine(torch.tensor([[1.0, 1.0]]), torch.tensor([-1.5])), MultiLabel(1)).double()
    images = torch.tensor([0.9, 0.2], dtype=torch.float64).view(1, 1, 1, 2)
    result = RefinedJMA(margin=1e-4)(classifier, images, torch.tensor([[1]]))
    assert result.success.all()
    assert result.adversarials.flatten().tolist() == pytest.approx([1.0, 0.5], abs=1e-3)


def test_a_curved_boundary_by_hand():
    """Inside the circle |x - (1, 1)| <= 0.5 from (0, 0.5): the nearest point lies on the way to the centre."""

    class Circle(nn.Module):
        def forward(self, images):
            return 0.25 - (images.flatten(1) - 1).square().sum(dim=1, keepdim=True)

    classifier = Classifier(Circle(), MultiLabel(1)).double()
    image = torch.tensor([0.0, 0.5], dtype=torch.float64).view(1, 1, 1, 2)
    result = RefinedJMA(margin=1e-3)(classifier, image, torch.tensor([[1]]))
    least = 1.25**0.5 - 0.5
    assert result.success.all()
    assert least <= norms(result.adversarials - image).item() < 1.01 * least


def test_the_gap_tells_a_local_optimum(convolutional):
    """Next to nothing where the attack ends by itself, much where it is cut off on the way; on a ball 0 in the end."""

    class Ball(nn.Module):
        def forward(self, images):
            return 0.36 - (images.flatten(1) - 1).square().sum(dim=1, keepdim=True)

    classifier = Classifier(Ball(), MultiLabel(1)).double()
    image, target = torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64), torch.ones(1, 1, dtype=torch.long)
    ended = RefinedJMA(margin=1e-3)(classifier, image, target)
    assert ended.success.all() and 0 <= ended.gap.item() < 5e-3
    classifier, images, targets = convolutional
    whole, cut = (RefinedJMA(max_iterations=most)(classifier, images, targets) for most in (60, 3))
    assert whole.gap.median() < 0.05 and (whole.gap >= 0).all()
    assert cut.gap[~cut.gap.isnan()].median() > whole.gap.median()
    assert JMA(step_size=0.5)(classifier, images, targets).gap.isnan().all()


def test_never_farther_than_where_it_first_arrived(convolutional):
    classifier, images, targets = convolutional
    attack = RefinedJMA()
    whole = attack(classifier, images, targets)
    assert whole.success.all()
    arrived = int(whole.first_success.max())
    short = dataclasses.replace(attack, max_iterations=arrived)(classifier, images, targets)
    assert (norms(whole.adversarials - images) <= norms(short.adversarials - images) + 1e-6).all()
    assert norms(whole.adversarials - images).sum() < norms(short.adversarials - images).sum()


def test_nearer_than_algorithm_1_at_any_of_these_steps(convolutional):
    classifier, images, targets = convolutional
    refined = RefinedJMA()(classifier, images, targets)
    for step_size in (0.02, 0.1, 0.5):
        plain = JMA(step_size=step_size, max_iterations=200)(classifier, images, targets)
        assert norms(refined.adversarials - images).median() <= 1.001 * norms(plain.adversarials - images).median()


def test_batches_change_nothing(convolutional):
    classifier, images, targets = convolutional
    classifier, images = classifier.double(), images.double()
    together = RefinedJMA()(classifier, images, targets)
    alone = [RefinedJMA()(classifier, images[i : i + 1], targets[i : i + 1]) for i in range(len(images))]
    torch.testing.assert_close(together.adversarials, torch.cat([one.adversarials for one in alone]), rtol=0, atol=1e-5)
    assert torch.cat([one.success for one in alone]).all()


def test_a_code_with_activation_is_judged_by_its_outputs():
    classifier = Classifier(
        Affine(torch.randn(8, 16, generator=torch.Generator().manual_seed(2)), torch.zeros(8)), Codebook(hadamard(8, 6))
    ).double()
    images = torch.full((3, 1, 4, 4), 0.5, dtype=torch.float64)
    targets = (classifier.decide(images) + torch.tensor([1, 2, 3])) % 6
    result = RefinedJMA()(classifier, images, targets)
    assert result.success.all()
    # On the outputs' boundary, not on the logits'.
    outputs = classifier.encoding.outputs(classifier(result.adversarials))
    edge = classifier.encoding.region(targets).violations(outputs).amax(dim=1)
    assert (edge < 0).all() and (edge > -0.2).all()


def test_no_way_on_is_infeasible():
    flat = Classifier(Affine(torch.zeros(2, 4), torch.tensor([1.0, 0.0])), OneHot(2))
    result = RefinedJMA()(flat, torch.full((2, 1, 2, 2), 0.5), torch.tensor([1, 1]))
    assert result.status == [Status.INFEASIBLE] * 2
    assert (result.adversarials == 0.5).all()


def test_values_that_are_not_finite_end_their_image_alone():
    class Root(nn.Module):
        """Its slope is infinite at 0."""

        def forward(self, images):
            flat = images.flatten(1)
            return torch.stack([flat.sum(dim=1) - 0.9, flat.clamp(min=0).sqrt().sum(dim=1) * 0 - 0.1], dim=1)

    images = torch.tensor([[0.0, 0.5], [0.3, 0.3]]).view(2, 1, 1, 2)
    result = RefinedJMA()(Classifier(Root(), MultiLabel(2)), images, torch.tensor([[1, 0], [1, 0]]))
    assert result.status[0] == Status.NOT_FINITE
    assert result.status[1] == Status.FOUND


def test_only_constraints_that_may_matter_are_taken_in():
    logits = torch.tensor([[5.0, -9.0, 2.0, -0.01, 1.0]])
    classifier = Classifier(Affine(torch.eye(5), logits[0] - 0.5), MultiLabel(5))
    targets = torch.tensor([[1, 0, 0, 0, 1]])
    problem = Problem(classifier, torch.full((1, 1, 1, 5), 0.5), targets, Context(), None, None)
    problem.begin()
    walk = BoundaryWalk(problem, 0.8)
    place, present = _working_set(walk, torch.tensor([0]))
    assert sorted(place[present].tolist()) == [2, 3]
    walk.weights[0, 0] = 1.0
    place, present = _working_set(walk, torch.tensor([0]))
    assert sorted(place[present].tolist()) == [0, 2, 3]


def test_backward_passes_are_counted_by_image():
    """Two labels to flip cost two rows an iteration, one label one."""
    weight = torch.eye(4) * 3
    classifier = Classifier(Affine(weight, torch.tensor([-2.0, -2.0, -2.0, -2.0])), MultiLabel(4))
    images = torch.full((2, 1, 2, 2), 0.5)
    result = RefinedJMA(max_iterations=1)(classifier, images, torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]))
    assert result.success.all()
    assert result.vjps.tolist() == [2, 1]


@pytest.mark.parametrize("wrong", [{"aim": 1.0}, {"momentum": -0.1}, {"margin": 1.5}, {"tries": 0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=f"RefinedJMA: {next(iter(wrong))} must be"):
        RefinedJMA(**wrong)
