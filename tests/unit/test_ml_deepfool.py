import pytest
import torch

from tests.conftest import Affine
from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import MLDeepFool, Status


def labels(count=4, seed=2):
    """An affine multi-label classifier in float64, images, and targets with the first label flipped."""
    generator = torch.Generator().manual_seed(seed)
    weight = 0.1 * torch.randn(count, 16, dtype=torch.float64, generator=generator)
    images = 0.5 + 0.05 * torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=generator)
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    classifier = Classifier(Affine(weight, bias), MultiLabel(count)).double()
    with torch.no_grad():
        targets = classifier.decide(images)
    targets[:, 0] = 1 - targets[:, 0]
    return classifier, images, targets


def test_one_step_is_the_pseudo_inverse_of_the_scores_jacobian():
    classifier, images, targets = labels()
    result = MLDeepFool(max_iterations=1, overshoot=0.0)(classifier, images, targets)
    with torch.no_grad():
        scores = classifier(images).sigmoid()
    wanted = torch.where((scores > 0.5) != targets.bool(), 0.5 - scores, 0.0)
    jacobian = (scores * (1 - scores))[:, :, None] * classifier.net.weight.detach()
    expected = (torch.linalg.pinv(jacobian) @ wanted[:, :, None])[:, :, 0]
    assert torch.allclose((result.adversarials - images).flatten(1), expected, atol=1e-4, rtol=0)
    assert (expected.abs().amax(dim=1) > 1e-3).any()


def test_by_hand():
    """Z = 2 x - 1 at 0.4: f = logistic(-0.2), slope 2 f (1 - f); the step is (0.5 - f) / slope, 2 % longer."""
    classifier = Classifier(Affine(torch.tensor([[2.0]]), torch.tensor([-1.0])), MultiLabel(1))
    score = torch.tensor(-0.2).sigmoid()
    expected = 0.4 + 1.02 * (0.5 - score) / (2 * score * (1 - score))
    result = MLDeepFool()(classifier, torch.full((1, 1, 1, 1), 0.4), torch.tensor([[1]]))
    assert result.adversarials.item() == pytest.approx(expected.item(), abs=1e-4)
    assert result.iterations.tolist() == result.first_success.tolist() == [1]


def test_equal_holds_the_right_scores_and_free_does_not():
    classifier, images, targets = labels()
    equal = MLDeepFool(max_iterations=1)(classifier, images, targets)
    free = MLDeepFool(max_iterations=1, keep="free")(classifier, images, targets)
    with torch.no_grad():
        before, after, other = (classifier(x)[:, 1:] for x in (images, equal.adversarials, free.adversarials))
    assert torch.allclose(before, after, atol=1e-9)
    assert (before - other).abs().max() > 1e-3
    lengths = [(result.adversarials - images).flatten(1).norm(dim=1) for result in (free, equal)]
    assert (lengths[0] <= lengths[1] + 1e-9).all()


def test_duplicated_labels_are_solved_and_contradicting_ones_do_not_blow_up():
    weight = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    classifier = Classifier(Affine(weight, torch.tensor([-0.6, -0.6, -0.9])), MultiLabel(3))
    images, targets = torch.full((2, 1, 2, 2), 0.5), torch.tensor([[1, 1, 0], [0, 1, 0]])
    result = MLDeepFool()(classifier, images, targets)
    assert result.success.tolist() == [True, False]
    assert result.adversarials[0].flatten().tolist() == pytest.approx([0.602, 0.5, 0.5, 0.5], abs=1e-3)
    assert result.adversarials.isfinite().all()


def test_saturated_scores_stay_finite():
    classifier = Classifier(Affine(torch.tensor([[500.0, 0.0]]), torch.tensor([-400.0])), MultiLabel(1))
    result = MLDeepFool()(classifier, torch.full((1, 1, 1, 2), 0.1), torch.tensor([[1]]))
    assert result.success.all()
    assert result.adversarials.flatten().tolist() == pytest.approx([1.0, 0.1])


def test_no_gradient_at_all_is_infeasible():
    classifier = Classifier(Affine(torch.zeros(2, 4), torch.ones(2)), MultiLabel(2))
    result = MLDeepFool()(classifier, torch.rand(1, 1, 2, 2), torch.tensor([[0, 1]]))
    assert result.status == [Status.INFEASIBLE]


def test_on_a_codebook_the_bits_are_attacked_and_the_decision_judges(code_of_eight):
    classifier, images, targets = code_of_eight
    result = MLDeepFool()(classifier, images, targets)
    assert result.success.all()
    assert torch.equal(classifier.decide(result.adversarials), targets)


def test_one_hot_is_refused():
    classifier = Classifier(Affine(torch.eye(3), torch.zeros(3)), OneHot(3))
    with pytest.raises(ValueError, match="MLDeepFool does not work on the encoding OneHot"):
        MLDeepFool()(classifier, torch.rand(1, 1, 1, 3), torch.tensor([1]))


@pytest.mark.parametrize("wrong", [{"overshoot": -0.1}, {"max_iterations": 0}, {"keep": "some"}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MLDeepFool(**wrong)
