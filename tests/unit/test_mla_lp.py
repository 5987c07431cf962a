import math

import pytest
import torch
from scipy.optimize import linprog

from tests.conftest import Affine
from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import MLALP, Context, Status
from wolfe.attacks.mla_lp import _Memory
from wolfe.attacks.problem import Problem


def labels(count=4, width=16, scale=0.1):
    """An affine multi-label classifier in float64, images, and targets with two labels flipped."""
    generator = torch.Generator().manual_seed(6)
    weight = scale * torch.randn(count, width, dtype=torch.float64, generator=generator)
    images = 0.5 + 0.05 * torch.randn(5, 1, 1, width, dtype=torch.float64, generator=generator)
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    classifier = Classifier(Affine(weight, bias), MultiLabel(count)).double()
    with torch.no_grad():
        targets = classifier.decide(images)
    targets[:, :2] = 1 - targets[:, :2]
    return classifier, images, targets


def size(result, images):
    return (result.adversarials - images).flatten(1).abs().amax(dim=1)


@pytest.mark.parametrize("solver", ["highs", "dual"])
def test_one_step_by_hand(solver):
    """Z = x_1 - 2 x_2 + 0.4 = -0.1: the loss ln(1 + e^0.1) falls to ln 2 along the gradient's signs."""
    classifier = Classifier(Affine(torch.tensor([[1.0, -2.0]]), torch.tensor([0.4])), MultiLabel(1))
    images = torch.full((1, 1, 1, 2), 0.5)
    result = MLALP(max_iterations=1, solver=solver)(classifier, images, torch.tensor([[1]]))
    slope = 3 * (1 - 1 / (1 + math.exp(0.1)))
    q = (math.log(1 + math.exp(0.1)) - math.log(2)) / slope
    assert (result.adversarials - images).flatten().tolist() == pytest.approx([q, -q], abs=1e-5)
    assert result.iterations.tolist() == [1]


@pytest.mark.parametrize("solver", ["highs", "dual"])
def test_first_step_is_the_least_max_norm_of_the_linearised_losses(solver):
    classifier, images, targets = labels()
    result = MLALP(max_iterations=1, solver=solver)(classifier, images, targets)
    with torch.no_grad():
        logits = classifier(images)
    for image, found in enumerate(size(result, images).tolist()):
        sign = 2.0 * targets[image] - 1
        loss = (-sign * logits[image]).exp().log1p()
        rows = -(sign * (-sign * logits[image]).sigmoid())[:, None] * classifier.net.weight.detach()
        width = rows.shape[1]
        columns = torch.eye(width).double()
        ones = torch.ones(width, 1).double()
        upper = torch.cat([torch.cat([rows, torch.zeros(len(rows), 1)], 1), torch.cat([columns, -ones], 1)])
        upper = torch.cat([upper, torch.cat([-columns, -ones], 1)])
        right = torch.cat([math.log(2) - loss, torch.zeros(2 * width)])
        solved = linprog([0.0] * width + [1.0], upper.numpy(), right.numpy(), bounds=[(None, None)] * (width + 1))
        assert found == pytest.approx(solved.fun, rel=2e-3)


def test_affine_labels_are_reached_near_the_least_max_norm():
    """Newton steps on convex losses end on the linear problem's own boundary."""
    classifier, images, targets = labels()
    result = MLALP()(classifier, images, targets)
    assert result.success.all()
    assert (result.iterations <= 6).all()
    assert torch.equal(result.iterations, result.first_success)
    assert (result.vjps == 4 * result.iterations).all()
    assert (result.forwards == 1 + 2 * result.iterations).all()


def test_solvers_agree_on_a_network(convolutional):
    classifier, images, targets = convolutional
    if not MLALP().serves(classifier.encoding):
        return
    exact, dual = (MLALP(max_iterations=1, solver=solver)(classifier, images, targets) for solver in ("highs", "dual"))
    assert torch.allclose(size(exact, images), size(dual, images), rtol=3e-3)


def test_contradicting_labels_are_infeasible_for_that_image_alone():
    weight = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    classifier = Classifier(Affine(weight, torch.tensor([-0.6, -0.6, -0.9])), MultiLabel(3))
    images, targets = torch.full((2, 1, 2, 2), 0.5), torch.tensor([[1, 1, 0], [0, 1, 0]])
    result = MLALP()(classifier, images, targets)
    assert result.status == [Status.FOUND, Status.INFEASIBLE]
    assert size(result, images)[0].item() == pytest.approx(0.1, abs=1e-4)


def test_an_image_that_cannot_move_ends_as_exhausted():
    """The label wants a pixel above 1; once there, nothing changes any more."""
    classifier = Classifier(Affine(torch.tensor([[1.0]]), torch.tensor([-1.2])), MultiLabel(1))
    result = MLALP()(classifier, torch.full((1, 1, 1, 1), 0.9), torch.tensor([[1]]))
    assert result.status == [Status.EXHAUSTED]
    assert result.iterations.item() <= 3
    assert result.adversarials.item() == 1.0


def test_a_lower_threshold_goes_further():
    classifier, images, targets = labels(scale=0.3)
    usual, strict = (MLALP(threshold=threshold, max_iterations=1) for threshold in (0.5, 0.45))
    assert (size(strict(classifier, images, targets), images) > size(usual(classifier, images, targets), images)).all()


def test_on_a_codebook_the_bits_are_attacked_and_the_decision_judges(code_of_eight):
    classifier, images, targets = code_of_eight
    result = MLALP()(classifier, images, targets)
    assert result.success.all()
    assert torch.equal(classifier.decide(result.adversarials), targets)


RELEASED = {"falling_thresholds": True, "restart_when_worse": True, "keep": "best", "patience": 5}


def released(steps):
    """What the released code makes of steps (image, agreeing labels of 2): goes on from, keeps going, thresholds."""
    classifier = Classifier(Affine(torch.eye(2), torch.tensor([-0.5, -0.5])), MultiLabel(2))
    problem = Problem(classifier, torch.tensor([[[[0.4, 0.4]]]]), torch.tensor([[1, 1]]), Context(), None, None)
    problem.begin()
    thresholds = torch.full((1, 2), 0.5, dtype=torch.float64)
    memory, index, present = _Memory(problem, thresholds, MLALP(**RELEASED)), torch.tensor([0]), problem.start
    told = []
    for step in steps:
        moved = torch.tensor([[[step]]])
        onwards, going = memory.judge(index, present, moved, classifier(present), classifier(moved))
        told.append((onwards.flatten().tolist(), going.item()))
        present = onwards
    return told, thresholds[0].tolist(), memory.best.flatten().tolist()


def test_released_thresholds_fall_where_a_score_does_not_improve():
    _, thresholds, _ = released([[0.45, 0.4], [0.46, 0.3]])
    assert thresholds == pytest.approx([0.5, 0.4])
    _, thresholds, _ = released([[0.4, 0.45]] * 20)
    assert thresholds[0] == pytest.approx(0.1)


def test_released_goes_back_to_the_clean_image_and_remembers_the_best():
    told, _, best = released([[0.9, 0.4], [0.7, 0.45], [0.45, 0.45]])
    assert [going for _, going in told] == [True] * 3
    assert told[1][0] == pytest.approx([0.7, 0.45])
    assert told[2][0] == pytest.approx([0.4, 0.4])
    # One label right, and nearer to the clean image than the first.
    assert best == pytest.approx([0.7, 0.45])


def test_released_gives_up_what_does_not_change_for_five_steps():
    told, _, _ = released([[0.4, 0.4]] * 5)
    assert [going for _, going in told] == [True] * 4 + [False]


def test_best_is_the_image_with_the_most_labels():
    """Label 2 is out of reach, and its falling threshold soon beyond the box: label 1 is on all the same."""
    weight, bias = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([-0.5, -1.2])
    classifier = Classifier(Affine(weight, bias), MultiLabel(2))
    images, targets = torch.full((1, 1, 1, 2), 0.4), torch.tensor([[1, 1]])
    result = MLALP(**RELEASED, max_iterations=40)(classifier, images, targets)
    assert result.status == [Status.INFEASIBLE]
    assert classifier.decide(result.adversarials).tolist() == [[1, 0]]
    classifier, images, targets = labels()
    assert MLALP(**RELEASED)(classifier, images, targets).success.all()


def test_the_clean_image_may_be_the_best():
    """The only step that the first label allows takes the second one away."""
    weight, bias = torch.tensor([[1.0], [-1.0]]), torch.tensor([-0.5, 0.5])
    classifier = Classifier(Affine(weight, bias), MultiLabel(2))
    images, targets = torch.full((1, 1, 1, 1), 0.4), torch.tensor([[1, 1]])
    result = MLALP(keep="best", max_iterations=3)(classifier, images, targets)
    assert not result.success.any()
    assert torch.equal(result.adversarials, images)


def test_one_hot_is_refused():
    classifier = Classifier(Affine(torch.eye(3), torch.zeros(3)), OneHot(3))
    with pytest.raises(ValueError, match="MLALP does not work on the encoding OneHot"):
        MLALP()(classifier, torch.rand(1, 1, 1, 3), torch.tensor([1]))


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 0.6}, {"threshold": 0}, {"gap": 0.0}, {"solver": "simplex"}, {"keep": "first"}, {"patience": 0}],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MLALP(**wrong)
