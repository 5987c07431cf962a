import threading

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, brentq, minimize
from scipy.special import expit

from tests.conftest import Affine
from wolfe import Classifier, OneHot
from wolfe.attacks import LBFGS, Context, GradientAttack, Status
from wolfe.attacks.conversation import Conversation


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Every solver's thread ends with the attack."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def two_classes():
    """An affine classifier in float64, eight images far from 0 and 1, their other classes, leads and slopes."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(2, 16, dtype=torch.float64, generator=generator)
    images = 0.5 + 0.05 * torch.randn(8, 1, 4, 4, dtype=torch.float64, generator=generator)
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    classifier = Classifier(Affine(weight, bias), OneHot(2)).double()
    with torch.no_grad():
        logits = classifier(images)
    lead = (logits[:, 0] - logits[:, 1]).abs()
    return classifier, images, 1 - logits.argmax(dim=1), lead, (weight[0] - weight[1]).norm().item()


@pytest.mark.parametrize("constant", [0.03, 1.0])
def test_a_run_ends_in_the_minimum(two_classes, constant):
    """Along the slope w of the lead g, J = log(1 + e^(g - |w| r)): 2 c r = |w| sigmoid(g - |w| r)."""
    classifier, images, targets, leads, slope = two_classes
    seen = []
    LBFGS(initial_constant=constant, search_steps=1)(classifier, images, targets, context=Context(observer=seen.append))
    last = {image: told.images[place] for told in seen for place, image in enumerate(told.index.tolist())}
    for image, lead in enumerate(leads.tolist()):
        radius = brentq(lambda r, g=lead: 2 * constant * r - slope * expit(g - slope * r), 0, 100)
        assert (last[image] - images[image]).norm().item() == pytest.approx(radius, rel=1e-3)


def test_the_search_comes_near_the_nearest_point(two_classes):
    classifier, images, targets, lead, slope = two_classes
    result = LBFGS(initial_constant=1.0)(classifier, images, targets)
    assert result.status == [Status.FOUND] * 8
    share = (result.adversarials - images).flatten(1).norm(dim=1) / (lead / slope)
    assert share.min() >= 1
    assert share.max() <= 1.1
    short = LBFGS(initial_constant=1.0, search_steps=4)(classifier, images, targets)
    first = short.adversarials[short.success] - images[short.success]
    then = result.adversarials[short.success] - images[short.success]
    assert (then.flatten(1).norm(dim=1) <= first.flatten(1).norm(dim=1)).all()


def test_solvers_that_share_passes_do_what_each_would_alone(convolutional):
    """SciPy, image by image, with the objective as it is printed, in float64."""
    classifier, images, targets = convolutional
    classifier, images = classifier.double(), images.double()
    constant = 0.05
    seen = []
    attack = LBFGS(initial_constant=constant, search_steps=1, max_iterations=12)
    result = attack(classifier, images, targets, context=Context(observer=seen.append), batch_size=3)
    last = {image: told.images[place] for told in seen for place, image in enumerate(told.index.tolist())}
    assert max(len(told.index) for told in seen) == 3
    for image in range(len(images)):
        start = images[image].flatten().numpy()

        def objective(point, image=image, start=start):
            values = torch.from_numpy(point.copy()).view(1, *images.shape[1:]).requires_grad_(True)
            loss = classifier.encoding.loss(classifier(values), targets[image : image + 1])
            (slope,) = torch.autograd.grad(loss.sum(), values)
            shift = point - start
            whole = constant * shift @ shift + loss.item()
            return whole / (2 * constant), shift + slope.flatten().numpy() / (2 * constant)

        bounds = Bounds(np.zeros(len(start)), np.ones(len(start)))
        alone = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 12})
        if image in last:
            assert result.vjps[image].item() == alone.nfev
            assert result.forwards[image].item() == alone.nfev + 1
            assert np.allclose(last[image].flatten().numpy(), alone.x, atol=1e-8)


@pytest.mark.parametrize("encoding", [OneHot(6)])
def test_what_is_found_is_nearer_than_by_plain_steps(convolutional):
    classifier, images, targets = convolutional
    found = LBFGS(search_steps=6, max_iterations=40)(classifier, images, targets)
    plain = GradientAttack(step_length=0.05, max_iterations=200)(classifier, images, targets)
    both = found.success & plain.success
    assert found.success.sum() >= plain.success.sum()
    near, far = ((result.adversarials - images).flatten(1).norm(dim=1)[both] for result in (found, plain))
    assert near.mean() <= far.mean()


class Broken(torch.nn.Module):
    """Fails at the third pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, images):
        self.passes += 1
        if self.passes == 3:
            raise RuntimeError("the network broke")
        return images.flatten(1)[:, :2]


def test_an_error_of_the_network_ends_all_solvers():
    images = torch.tensor([[0.7, 0.3], [0.8, 0.1]]).view(2, 1, 1, 2)
    with pytest.raises(RuntimeError, match="the network broke"):
        LBFGS()(Classifier(Broken(), OneHot(2)), images, torch.tensor([1, 1]))


def test_routines_are_answered_in_turn():
    def routine(ask):
        for number in range(3):
            heard.append(ask(number))

    heard = []
    talk = Conversation(routine)
    for number in range(3):
        assert talk.question() == number
        talk.answer(number**2)
    assert talk.question() is None
    assert heard == [0, 1, 4]
    talk.end()


def test_the_error_of_a_routine_is_raised_where_it_is_asked():
    def routine(ask):
        raise KeyError(ask("which"))

    talk = Conversation(routine)
    assert talk.question() == "which"
    talk.answer("this")
    with pytest.raises(KeyError, match="this"):
        talk.question()
    talk.end()


def test_a_routine_nobody_answers_ends():
    cleaned = []

    def routine(ask):
        try:
            ask(1)
        finally:
            cleaned.append(True)

    talk = Conversation(routine)
    talk.end()
    assert cleaned == [True]
