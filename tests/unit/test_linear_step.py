"""JMA's linearised problems: dense and lazy lead to the same images, and the books are kept."""

import math

import pytest
import torch
from torch import nn

from tests.conftest import Affine
from tests.unit.test_lazy import BackwardOnly
from wolfe import Classifier, MultiLabel, OneHot
from wolfe.attacks import JMA, Context, Status
from wolfe.attacks.linear_step import LinearSteps
from wolfe.linear import Linearisation


@pytest.mark.parametrize("options", [{}, {"margin": 0.1}, {"step_size": 0.1}, {"step_size": 1.0, "judge": "logits"}])
def test_dense_and_lazy_lead_to_the_same_images(convolutional, options):
    """Within 1e-9 in every pixel, in double precision: in single precision rounding may decide a bisection."""
    classifier, images, targets = convolutional
    classifier, images = classifier.double(), images.double()
    options = {"step_size": 0.3, "max_iterations": 40} | options
    dense = JMA(solver="dense", **options)(classifier, images, targets)
    lazy = JMA(solver="lazy", **options)(classifier, images, targets)
    assert lazy.status == dense.status
    assert torch.equal(lazy.iterations, dense.iterations)
    assert torch.equal(lazy.first_success, dense.first_success)
    assert torch.allclose(lazy.adversarials, dense.adversarials, atol=1e-9)
    assert (dense.jvps == 0).all()
    assert (lazy.jvps > 0).all()


def test_first_steps_agree_and_are_certified(affine):
    classifier, images, targets = affine
    dense, lazy, chosen = (
        JMA(solver=solver).linear_step(classifier, images, targets) for solver in ("dense", "lazy", "auto")
    )
    assert lazy.converged.all()
    assert lazy.residual.max() <= 1e-8
    assert torch.allclose(lazy.perturbation, dense.perturbation, rtol=1e-9, atol=1e-12)
    assert torch.allclose(lazy.multipliers, dense.multipliers, rtol=1e-6, atol=1e-9)
    assert torch.equal(chosen.perturbation, dense.perturbation)


def test_inside_the_region_of_the_logits_the_step_is_taken_in_the_outputs(code_of_eight):
    """A code's decision is taken after tanh: logits inside their region may still decide for another class."""
    classifier, images, targets = code_of_eight
    region = classifier.encoding.region(targets[:1])
    generator = torch.Generator().manual_seed(3)
    while True:
        logits = 3 * torch.randn(1, 8, dtype=torch.float64, generator=generator)
        if region.violations(logits).max() < 0 and not classifier.encoding.reached(logits, targets[:1]):
            break
    with torch.no_grad():
        classifier.net.bias += (logits - classifier(images[:1]))[0]
    dense, lazy = (JMA(solver=solver).linear_step(classifier, images[:1], targets[:1]) for solver in ("dense", "lazy"))
    assert dense.perturbation.norm() > 0
    assert torch.allclose(lazy.perturbation, dense.perturbation, rtol=1e-6)


@pytest.fixture
def many_classes():
    """An affine classifier of 300 classes in float64, images and targets."""
    generator = torch.Generator().manual_seed(8)
    weight = torch.randn(300, 64, dtype=torch.float64, generator=generator)
    images = 0.5 + 0.05 * torch.randn(5, 1, 8, 8, dtype=torch.float64, generator=generator)
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    return Classifier(Affine(weight, bias), OneHot(300)).double(), images, torch.arange(5)


def test_many_classes_are_solved_lazily_and_few_densely(many_classes, convolutional):
    classifier, images, targets = many_classes
    result = JMA()(classifier, images, targets)
    assert result.success.all()
    assert (result.vjps < 100).all()
    assert (result.jvps > 0).all()
    few, images, targets = convolutional
    result = JMA(max_iterations=3)(few, images, targets)
    assert (result.vjps % few.encoding.size == 0).all()
    assert (result.jvps == 0).all()


def test_what_the_jacobian_showed_lets_the_next_problems_be_lazy(many_classes):
    """30 outputs are worked out once; after that the few constraints with a multiplier are a start."""
    classifier, images, targets = many_classes
    with torch.no_grad():
        network = Affine(classifier.net.weight[:30], classifier.net.bias[:30])
    few = Classifier(network, OneHot(30)).double()
    steps = LinearSteps(few, targets, 0.0, "auto")
    everything = torch.arange(5)
    local = few.linearise(images)
    assert steps.wants_jacobian(local.values, everything)
    dense = steps.by_jacobian(local.values, few.logits_and_jacobian(images)[1], everything)
    assert not steps.wants_jacobian(local.values, everything)
    lazy = steps.by_rows(local, images, everything)
    assert torch.equal(lazy.vjps, (dense.multipliers > 0).sum(dim=1))
    assert torch.allclose(lazy.solution.perturbation, dense.perturbation, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("needs", ["full_rank", "observer"])
def test_where_the_jacobian_is_needed_it_is_worked_out(many_classes, needs):
    classifier, images, targets = many_classes
    seen = []
    context = Context(observer=lambda now: seen.append(now.jacobian.shape)) if needs == "observer" else None
    attack = JMA(solver="lazy", full_rank=needs == "full_rank")
    result = attack(classifier, images[:2], targets[:2], context=context)
    assert (result.vjps == 300).all()
    assert (result.jvps == 0).all()
    assert seen == ([(2, 300, 1, 8, 8)] if needs == "observer" else [])


def test_later_iterations_begin_with_the_working_set(many_classes):
    classifier, images, targets = many_classes
    steps = LinearSteps(classifier, targets, 0.0, "lazy")
    everything = torch.arange(5)
    first = steps.by_rows(classifier.linearise(images), images, everything)
    moved = images + 0.1 * first.solution.perturbation
    second = steps.by_rows(classifier.linearise(moved), moved, everything)
    assert torch.equal(second.vjps, (first.solution.multipliers > 0).sum(dim=1))
    assert torch.allclose(second.solution.perturbation, 0.9 * first.solution.perturbation, rtol=1e-5)
    part = torch.tensor([3, 1])
    third = steps.by_rows(classifier.linearise(moved[part]), moved[part], part)
    assert torch.allclose(third.solution.perturbation, second.solution.perturbation[part])


class BackwardNet(Affine):
    """An affine network without forward derivatives."""

    def forward(self, images):
        return super().forward(BackwardOnly.apply(images))


def test_networks_without_forward_mode_are_solved_densely_from_then_on(many_classes):
    classifier, images, targets = many_classes
    classifier.net.__class__ = BackwardNet
    lazy = JMA(solver="lazy", step_size=0.01, max_iterations=3)(classifier, images, targets)
    dense = JMA(solver="dense", step_size=0.01, max_iterations=3)(classifier, images, targets)
    assert torch.equal(lazy.iterations, dense.iterations)
    assert torch.allclose(lazy.adversarials, dense.adversarials, atol=1e-9)
    assert (lazy.jvps == 0).all()
    assert ((lazy.vjps - dense.vjps) <= 10).all()


class OwnRows(Affine):
    """A network that says that its rows are cheap."""

    def linearise(self, images, normalise):
        return Linearisation(lambda inputs: self(normalise(inputs)), images)


def test_networks_with_cheap_rows_are_solved_densely(many_classes):
    classifier, images, targets = many_classes
    classifier.net.__class__ = OwnRows
    assert (JMA()(classifier, images, targets).vjps == 300).all()
    assert (JMA(solver="lazy")(classifier, images, targets).vjps < 300).all()


def test_infeasible_and_spoilt_images_are_told_apart():
    """Labels 0 and 1 share a gradient and cannot be parted; NaN in a gradient ends its image alone."""

    class Spoilt(Affine):
        def forward(self, images):
            # The square root's slope at 0 is infinite; its value is not.
            return super().forward(images) + (images.flatten(1)[:, :1] * 0 + images.flatten(1)[:, 3:]).sqrt() * 0

    weight = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    classifier = Classifier(Spoilt(weight, torch.tensor([-0.6, -0.7, -0.9])), MultiLabel(3))
    images = torch.full((3, 1, 2, 2), 0.5)
    images[2, 0, 1, 1] = 0
    targets = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 0]])
    for solver in ("dense", "lazy"):
        result = JMA(step_size=0.1, solver=solver)(classifier, images, targets)
        assert result.status == [Status.FOUND, Status.INFEASIBLE, Status.NOT_FINITE]


def test_an_unknown_solver_is_refused():
    with pytest.raises(ValueError, match="JMA: solver must be one of auto, dense, lazy"):
        JMA(solver="fast")


def test_a_batch_that_arrives_whole_leaves_no_problem_to_solve():
    """The target lies between 0.6 and 0.8; from 0.4 the linear step leads to 0.53, one of fixed length to 0.65."""

    class Band(nn.Module):
        def forward(self, images):
            assert len(images), "many networks cannot take an empty batch"
            return 0.01 - (images.flatten(1) - 0.7).square()

    images = torch.full((2, 1, 1, 1), 0.4)
    attack = JMA(solver="lazy", step_size=0.25)
    result = attack(Classifier(Band(), MultiLabel(1)), images, torch.ones(2, 1, dtype=torch.long))
    assert result.success.all()
    assert result.first_success.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("images", "targets", "error", "message"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), [0, 1], TypeError, "float tensor"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.float64), [0, 1], TypeError, "float64, the classifier is torch.float32"),
        (torch.full((2, 1, 8, 8), 200.0), [0, 1], ValueError, "divide grey levels by 255"),
        (torch.full((2, 1, 8, 8), math.nan), [0, 1], ValueError, "NaN"),
        (torch.zeros(2, 1, 8, 8), None, ValueError, "give targets"),
        (torch.zeros(2, 1, 8, 8), [0, 7], ValueError, "class indices from 0 to 2"),
    ],
)
def test_a_linear_step_says_what_is_wrong_with_its_input(images, targets, error, message):
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), OneHot(3))
    with pytest.raises(error, match=message):
        JMA().linear_step(classifier, images, None if targets is None else torch.tensor(targets))


@pytest.mark.parametrize("wrong", [{"search_steps": 2.5}, {"max_iterations": 10.0}, {"max_iterations": True}])
def test_counts_are_whole_numbers(wrong):
    with pytest.raises(ValueError, match="must be a whole number"):
        JMA(**wrong)
