import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Affine, Small
from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import Context, SemAML, Status
from wolfe.attacks.auto_pgd import AutoPGD, check_points
from wolfe.attacks.sema_ml import aggregate_direction, orthogonal_direction
from wolfe.label_graph import LabelGraph

LONG = {"epsilon": 0.3, "step_size": 0.1, "max_iterations": 80}


def picture(*values: float) -> torch.Tensor:
    """One image (1, 1, 1, width)."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def affine(weight, bias):
    weight = torch.tensor(weight, dtype=torch.float64)
    return Classifier(Affine(weight, torch.tensor(bias, dtype=torch.float64)), MultiLabel(len(weight))).double()


@pytest.fixture
def network():
    """A small convolutional multi-label classifier, images, and targets that differ in two labels."""
    torch.manual_seed(4)
    classifier = Classifier(Small(7), MultiLabel(7), mean=[0.5], std=[0.25]).eval()
    images = torch.rand(8, 1, 8, 8)
    with torch.no_grad():
        classifier.net.layers[-1].bias -= classifier(images).mean(dim=0)
        targets = classifier.decide(images)
    targets[:, 2:4] = 1 - targets[:, 2:4]
    return classifier, images, targets


def descend(loss_and_slope, start, steps, radius=0.4, step_size=0.8, momentum=0.75, rho=0.75):
    """Auto-PGD of one image with three values, as Algorithm 1 of its paper reads, by hand; the images it visits."""

    def project(values):
        return [min(max(v, s - radius, 0.0), s + radius, 1.0) for v, s in zip(values, start, strict=True)]

    points = check_points(steps)
    visited, size = [start], step_size
    losses = [loss_and_slope(start)[0]]
    best, best_loss, halved, best_at_check, last_check = start, losses[0], False, losses[0], 0
    before = start
    for k in range(steps):
        if k in points:
            falls = sum(losses[i + 1] < losses[i] for i in range(last_check, k))
            stuck = falls < rho * (k - last_check) or (not halved and best_at_check == best_loss)
            if stuck:
                size /= 2
                visited[k], losses[k] = best, best_loss
            halved, best_at_check, last_check = stuck, best_loss, k
        here = visited[k]
        signs = [-((v > 0) - (v < 0)) for v in loss_and_slope(here)[1]]
        aim = project([h + size * s for h, s in zip(here, signs, strict=True)])
        if k == 0:
            new = aim
        else:
            mixed = [
                h + momentum * (a - h) + (1 - momentum) * (h - b) for h, a, b in zip(here, aim, before, strict=True)
            ]
            new = project(mixed)
        before = here
        visited.append(new)
        losses.append(loss_and_slope(new)[0])
        if losses[-1] < best_loss:
            best, best_loss = new, losses[-1]
    return visited, size


def valley(values):
    """A narrow valley whose bottom lies inside the ball: the loss, and its slope."""
    bottom, weights = (0.55, 0.43, 0.61), (1.0, 3.0, 9.0)
    loss = sum(w * abs(v - b) for v, b, w in zip(values, bottom, weights, strict=True))
    return loss, [w * ((v > b) - (v < b)) for v, b, w in zip(values, bottom, weights, strict=True)]


@pytest.mark.parametrize("steps", [3, 10, 40, 100])
def test_auto_pgd_makes_the_steps_of_its_algorithm(steps):
    start = [0.5, 0.2, 0.7]
    expected, size = descend(valley, start, steps)
    descent = AutoPGD(picture(*start), 0.4, 0.8, 0.75, 0.75, steps)
    everything = torch.tensor([0])
    for k in range(steps):
        loss, slope = valley(descent.present.flatten().tolist())
        descent.enter(everything, torch.tensor([loss], dtype=torch.float64), -picture(*slope).sign())
        assert descent.present.flatten().tolist() == pytest.approx(expected[k], abs=1e-12)
        descent.move(everything)
    assert descent.present.flatten().tolist() == pytest.approx(expected[steps], abs=1e-12)
    assert descent.step.item() == size
    assert size < 0.8


def test_check_points_come_closer_and_closer():
    assert check_points(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert check_points(1) == [1]
    assert check_points(3) == [1, 2, 3]


@given(st.integers(1, 400))
def test_check_points_are_steps_of_the_run(steps):
    points = check_points(steps)
    assert points == sorted(set(points))
    assert points[0] >= 1
    assert points[-1] <= steps


def test_gradients_that_agree_are_followed_by_their_sum():
    first, second = picture(3.0, 0.0, 1.0), picture(0.0, 1.0, -4.0)
    # At length 1: (0.95, 0, 0.32) and (0, 0.24, -0.97), whatever their lengths were.
    assert aggregate_direction(first, second).flatten().tolist() == [-1, -1, 1]
    assert aggregate_direction(first, 100 * second).flatten().tolist() == [-1, -1, 1]


def test_gradients_that_oppose_each_other_are_crossed():
    first, second = picture(1.0, 0.2, 0.1), picture(-1.0, 0.0, 0.0)
    cosine = (first * second).sum() / (first.norm() * second.norm())
    assert cosine <= -0.85
    direction = aggregate_direction(first, second)
    assert direction.flatten().tolist() == [0, -1, -1]
    assert (direction * second).sum() == 0


@pytest.mark.parametrize(("slant", "crossed"), [(0.5, True), (0.7, False)])
def test_the_threshold_lies_at_minus_0_85(slant, crossed):
    """The cosine of (1, slant) and (-1, 0) is -0.894 and -0.819."""
    direction = aggregate_direction(picture(1.0, slant), picture(-1.0, 0.0))
    assert (direction.flatten()[0] == 0) == crossed


@given(st.integers(0, 10**6))
def test_crossing_is_orthogonal_to_the_others_and_of_size_1(seed):
    generator = torch.Generator().manual_seed(seed)
    second = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=generator)
    first = -second + 0.1 * torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=generator)
    direction = aggregate_direction(first, second)
    assert (direction * second).flatten(1).sum(dim=1).abs().max() < 1e-9
    assert torch.allclose(direction.flatten(1).abs().amax(dim=1), torch.ones(3, dtype=torch.float64))


def test_directions_where_there_is_none_are_zero():
    nothing = picture(0.0, 0.0)
    assert not aggregate_direction(nothing, nothing).any()
    # The sign of the first is a multiple of the second: nothing is left of it.
    assert not aggregate_direction(picture(0.3, 0.3).float(), picture(-0.7, -0.7).float()).any()
    jacobian = torch.eye(2).view(1, 2, 1, 1, 2)
    assert not orthogonal_direction(picture(1.0, 2.0).float(), jacobian, torch.tensor([[True, True]])).any()


@given(st.integers(0, 10**6))
def test_qr_is_orthogonal_to_every_label_to_keep(seed):
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(3, 6, 1, 4, 4, dtype=torch.float64, generator=generator)
    jacobian[1, 4] = 2 * jacobian[1, 3] - jacobian[1, 5]
    jacobian[2, 3] = 0
    kept = torch.rand(3, 6, generator=generator) < 0.6
    kept[1] = torch.tensor([False, False, False, True, True, True])
    gradient = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=generator)
    direction = orthogonal_direction(gradient, jacobian, kept)
    parts = torch.einsum("bnchw,bchw->bn", jacobian, direction)
    assert parts[kept].abs().max() < 1e-9 if kept.any() else True
    # The dependent row takes no freedom away: the same as with the pseudo-inverse of the rows to keep.
    for place in range(3):
        rows = jacobian[place].flatten(1)[kept[place]]
        sign = gradient[place].flatten().sign()
        expected = sign - torch.linalg.pinv(rows, rtol=1e-10) @ (rows @ sign)
        assert torch.allclose(-direction[place].flatten(), expected / expected.abs().max(), atol=1e-8)


@pytest.mark.parametrize("projection", ["aggregate", "qr"])
def test_an_opposed_label_stays_where_it_is(projection):
    """Labels x1 + 0.2 x2 and x1: turning on the first alone goes along x2, where the second does not move."""
    classifier = affine([[1.0, 0.2], [1.0, 0.0]], [-0.61, -0.51])
    image, target = picture(0.5, 0.5), torch.tensor([[1, 0]])
    attack = SemAML(epsilon=0.2, step_size=0.06, projection=projection)
    result = attack(classifier, image, target)
    assert result.success.all()
    moved = (result.adversarials - image).flatten().tolist()
    assert moved[0] == pytest.approx(0, abs=1e-12)
    # 0.2 x2 must gain 0.01: steps 0.06, done in one.
    assert moved[1] == pytest.approx(0.06)
    assert result.iterations.item() == 1
    assert result.forwards.item() == 1 + 2
    assert result.vjps.item() == 2 * 2


def test_images_stay_in_the_ball_and_in_range(network):
    classifier, images, targets = network
    images = images.round()
    for epsilon in (0.01, 0.1):
        result = SemAML(epsilon=epsilon, max_iterations=40)(classifier, images, targets)
        assert (result.adversarials - images).abs().max() <= epsilon + 1e-6
        assert (result.adversarials - images).abs().max() > 0.5 * epsilon
        assert result.adversarials.min() >= 0
        assert result.adversarials.max() <= 1


def test_an_image_stops_at_its_first_success(network):
    classifier, images, targets = network
    told = []
    context = Context(observer=told.append)
    result = SemAML(**LONG)(classifier, images, targets, context=context)
    assert result.success.sum() >= 4
    assert torch.equal(result.first_success > 0, result.success)
    assert torch.equal(result.iterations[result.success], result.first_success[result.success])
    for place in result.success.nonzero()[:, 0].tolist():
        seen = [step.step for step in told if place in step.index.tolist()]
        assert seen == list(range(int(result.first_success[place]) + 1))
    # One forward pass looks at the start, one at each image; two gradients a step that is made.
    assert torch.equal(result.forwards, result.iterations + 2)


def test_a_failure_returns_its_best_image_and_costs_what_it_costs(network):
    classifier, images, targets = network
    attack = SemAML(epsilon=1e-4, max_iterations=10)
    result = attack(classifier, images, 1 - targets)
    assert not result.success.any()
    assert set(result.status) == {Status.EXHAUSTED}
    assert set(result.iterations.tolist()) == {10}
    assert set(result.forwards.tolist()) == {1 + 11}
    assert set(result.vjps.tolist()) == {2 * 10}
    with torch.no_grad():
        before = classifier.encoding.loss(classifier(images), 1 - targets)
        after = classifier.encoding.loss(classifier(result.adversarials), 1 - targets)
    assert (after < before).all()
    by_qr = dataclasses.replace(attack, projection="qr")(classifier, images, targets)
    assert set(by_qr.vjps.tolist()) == {7 * 10}


def test_results_do_not_depend_on_the_batch(network):
    classifier, images, targets = network
    classifier, images = classifier.double(), images.double()
    for projection in ("aggregate", "qr"):
        attack = SemAML(**LONG, projection=projection)
        together = attack(classifier, images, targets)
        for place in range(0, len(images), 2):
            one = slice(place, place + 1)
            alone = attack(classifier, images[one], targets[one])
            assert torch.allclose(alone.adversarials[0], together.adversarials[place], atol=1e-9)
            assert alone.iterations[0] == together.iterations[place]


def test_changed_labels_may_be_all_that_counts():
    """Labels 0 and 2 shall change; label 1, which grows with x1, is pulled back by x3 alone, which is 0 already."""
    classifier = affine([[1.0, 0.0, 0.0], [0.3, 0.0, 1.0], [0.0, 1.0, 0.0]], [-0.6, -0.17, -0.6])
    image, target = picture(0.5, 0.5, 0.0), torch.tensor([[1, 0, 1]])
    strict = SemAML(epsilon=0.3, step_size=0.15, max_iterations=20)
    assert strict(classifier, image, target).iterations.item() > 1
    loose = dataclasses.replace(strict, success_on="changed")(classifier, image, target)
    assert loose.iterations.item() == 1
    assert loose.first_success.item() == 0
    assert not loose.success.any()
    assert loose.status == [Status.EXHAUSTED]


GRAPH = LabelGraph((None, 0))


def test_a_graph_turns_ancestors_on():
    """Label 1 is below label 0; asked for label 1 alone, the graph wants both and the other way only the one."""
    classifier = affine([[1.0, 0.0], [0.0, 1.0]], [-0.6, -0.6])
    image, target = picture(0.5, 0.5), torch.tensor([[0, 1]])
    attack = SemAML(epsilon=0.2, step_size=0.15)
    with_graph = attack(classifier, image, target, context=Context(label_graph=GRAPH))
    assert classifier.decide(with_graph.adversarials).tolist() == [[1, 1]]
    assert not with_graph.success.any()
    assert with_graph.iterations.item() == 1
    for context in (None, Context(label_graph=GRAPH)):
        without = dataclasses.replace(attack, use_graph=False)(classifier, image, target, context=context)
        assert without.success.all()
        assert classifier.decide(without.adversarials).tolist() == [[0, 1]]
    plain = attack(classifier, image, target)
    assert torch.equal(plain.adversarials, without.adversarials)


def test_a_consistent_target_is_the_same_with_a_graph(network):
    classifier, images, _ = network
    graph = LabelGraph((None, 0, None, 2, None, None, None))
    with torch.no_grad():
        targets = classifier.decide(images)
    targets[:, 5] = 1 - targets[:, 5]
    targets[:, 1] &= targets[:, 0]
    targets[:, 3] &= targets[:, 2]
    with_graph = SemAML(**LONG)(classifier, images, targets, context=Context(label_graph=graph))
    without = SemAML(**LONG)(classifier, images, targets)
    assert torch.equal(with_graph.adversarials, without.adversarials)


def test_a_graph_of_another_size_is_refused(network):
    classifier, images, targets = network
    with pytest.raises(ValueError, match=r"label vectors must have the shape \(B, 2\)"):
        SemAML()(classifier, images, targets, context=Context(label_graph=GRAPH))


def test_other_encodings_are_refused():
    classifier = Classifier(Affine(torch.eye(4)[:3], torch.zeros(3)), OneHot(3))
    with pytest.raises(ValueError, match="SemAML does not work on the encoding OneHot"):
        SemAML()(classifier, torch.rand(1, 1, 2, 2), torch.tensor([1]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": 0},
        {"momentum": 1.5},
        {"rho": 2.0},
        {"projection": "svd"},
        {"success_on": "some"},
        {"step_size": -1.0},
    ],
)
def test_wrong_parameters_are_named(wrong):
    with pytest.raises(ValueError, match=f"SemAML: {next(iter(wrong))} must be"):
        SemAML(**wrong)


class _NoSlope(torch.nn.Module):
    """Finite logits whose gradient is NaN for images that begin with 0.8."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        root = (images.flatten(1)[:, :1] - 0.8).square().sqrt()
        return self.net(images) + 0 * root


@pytest.mark.parametrize("projection", ["aggregate", "qr"])
def test_a_gradient_that_is_not_finite_marks_its_image_alone(projection):
    known = affine([[1.0, 0.2], [0.1, 1.0]], [-0.3, -0.3])
    classifier = Classifier(_NoSlope(known.net), MultiLabel(2)).double()
    images = torch.cat([picture(0.2, 0.6), picture(0.8, 0.6)])
    targets = 1 - classifier.decide(images)
    attack = SemAML(**LONG, projection=projection)
    result = attack(classifier, images, targets)
    assert result.status[1] is Status.NOT_FINITE
    assert not result.success[1]
    alone = attack(known, images[:1], targets[:1])
    assert result.status[0] is alone.status[0]
    assert torch.equal(result.adversarials[0], alone.adversarials[0])
