"""The three sub-spaces of cross-entropy (Theorem IV.2 of the perturbation analysis) on a network trained on digits.

grad J = sum_m P_m grad z_m - grad z_c for the target c. S1: some other class k has P_k near 1; S3: the target has;
S2: no class has.
"""

import copy
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from tests.conftest import Affine
from wolfe import Classifier, OneHot
from wolfe.attacks import Context, GradientAttack

HIGH = 0.9
TYPES = {"float32": torch.float32, "float64": torch.float64}


def network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(),
        nn.Linear(32, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    """A classifier of the digits of scikit-learn, in single precision; images that it gets right, and targets."""
    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    classifier = Classifier(network(), OneHot(10), mean=[0.3], std=[0.4])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.01)
    for _ in range(60):
        chosen = torch.randperm(len(images))[:256]
        optimizer.zero_grad()
        nn.functional.cross_entropy(classifier(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    classifier.eval()
    with torch.no_grad():
        right = (classifier.decide(images) == labels).nonzero()[:40, 0]
    assert len(right) == 40
    return classifier, images[right], (labels[right] + torch.randint(1, 10, (40,))) % 10


def in_type(classifier, dtype):
    return copy.deepcopy(classifier).to(dtype)


def amplified(classifier, factor):
    """The same decisions with logits so many times as large."""
    louder = copy.deepcopy(classifier)
    with torch.no_grad():
        louder.net[-1].weight *= factor
        louder.net[-1].bias *= factor
    return louder


def seen_by(attack, classifier, images, targets):
    """What the attack showed of each step."""
    seen = []
    attack(classifier, images, targets, context=Context(observer=seen.append))
    return seen


def source(classifier, images, targets, loss):
    """P (B, m) of a loss at some images."""
    attack = GradientAttack(loss=loss, confidence=None, max_iterations=1, stop_at_success=False)
    objective = seen_by(attack, classifier, images, targets)[0]
    assert len(objective.index) == len(images)
    return objective.gradient.flatten(1)


@pytest.fixture(scope="module")
def path(digits):
    """Images along logit steps, which end deep in S3, with their targets."""
    classifier, images, targets = digits
    attack = GradientAttack(loss="logit", step_length=0.25, max_iterations=24, stop_at_success=False)
    seen = seen_by(attack, classifier, images, targets)
    # The attack leaves images out that have arrived before it began.
    shown = [(told.images, targets[told.index]) for told in seen[::2]]
    return torch.cat([shown_images for shown_images, _ in shown]), torch.cat([target for _, target in shown])


def state(classifier, images, targets):
    """Softmax (B, 10), the gradient of the loss (B, m) and the logits' gradients (B, 10, m)."""
    inputs = images.clone().requires_grad_(True)
    loss = classifier.encoding.loss(classifier(inputs), targets)
    (gradient,) = torch.autograd.grad(loss.sum(), inputs)
    logits, jacobian = classifier.logits_and_jacobian(images)
    return logits.softmax(dim=1), gradient.flatten(1), jacobian.flatten(2)


def spaces(softmax, targets):
    """Which images (B,) are in S1, S2 and S3, and the best class other than the target."""
    own = softmax.gather(1, targets[:, None])[:, 0]
    others = softmax.scatter(1, targets[:, None], 0)
    first, third = others.amax(dim=1) >= HIGH, own >= HIGH
    return first, ~first & ~third, third, others.argmax(dim=1)


def row(jacobian, classes):
    """The gradient (B, m) of one logit each."""
    return jacobian[torch.arange(len(classes)), classes]


@pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES.keys())
def test_gradient_of_cross_entropy_in_the_three_spaces(digits, path, dtype):
    """Each approximation within the bound that follows from what it leaves out; in S2 the form is exact."""
    classifier = in_type(digits[0], dtype)
    images, targets = path[0].to(dtype), path[1]
    softmax, gradient, jacobian = state(classifier, images, targets)
    first, second, third, best = spaces(softmax, targets)
    own = softmax.gather(1, targets[:, None])[:, 0]
    largest = jacobian.norm(dim=2).amax(dim=1)
    rounding = 100 * torch.finfo(dtype).eps * largest
    assert min(first.sum(), second.sum(), third.sum()) >= 30

    short = row(jacobian, best) - row(jacobian, targets)
    missed = (gradient - short).norm(dim=1)
    left_out = 1 - softmax.gather(1, best[:, None])[:, 0]
    assert (missed <= 2 * left_out * largest + rounding)[first].all()
    sure = first & (left_out <= 0.01)
    assert sure.sum() >= 20
    assert (missed / gradient.norm(dim=1))[sure].median() <= 0.01
    assert (missed / gradient.norm(dim=1))[first].max() <= 0.5

    shares = softmax.scatter(1, targets[:, None], 0)
    shares = shares / shares.sum(dim=1, keepdim=True)
    exact = (1 - own)[:, None] * (torch.einsum("bn,bnm->bm", shares, jacobian) - row(jacobian, targets))
    assert ((gradient - exact).norm(dim=1) <= rounding)[second].all()

    assert (gradient.norm(dim=1) <= 2 * (1 - own) * largest + rounding)[third].all()
    assert gradient[third].norm(dim=1).median() <= 0.1 * row(jacobian, targets)[third].norm(dim=1).median()


@pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES.keys())
def test_sources_are_the_published_ones(digits, path, dtype):
    classifier = in_type(digits[0], dtype)
    images, targets = path[0][:40].to(dtype), path[1][:40]
    softmax, gradient, jacobian = state(classifier, images, targets)
    best = spaces(softmax, targets)[3]
    expected = {
        "cross_entropy": -gradient,
        "logit": row(jacobian, targets),
        "m_logit": row(jacobian, targets) - row(jacobian, best),
    }
    for loss, wanted in expected.items():
        found = source(classifier, images, targets, loss)
        assert torch.allclose(found, wanted, rtol=0, atol=100 * torch.finfo(dtype).eps * float(wanted.abs().max()))
    signs = source(classifier, images, targets, "cross_entropy_sign")
    assert set(signs.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert (signs * -gradient >= 0).all()


def test_cross_entropy_vanishes_in_single_precision_and_the_logits_do_not(digits):
    """Where the target leads by more than 104, in float32 but not in float64, and never for the logit losses."""
    classifier, images, _ = digits
    loud = amplified(classifier, 60)
    with torch.no_grad():
        ordered = loud(images).sort(dim=1).values
        targets = loud.decide(images)
    lead = ordered[:, -1] - ordered[:, -2]
    chosen = (lead > 110) & (lead < 700)
    assert chosen.sum() >= 10
    images, targets = images[chosen], targets[chosen]
    _, single, jacobian = state(loud, images, targets)
    _, double, _ = state(in_type(loud, torch.float64), images.double(), targets)
    assert torch.equal(single, torch.zeros_like(single))
    assert torch.equal(single.sign(), torch.zeros_like(single))
    assert (double != 0).any(dim=1).all()
    assert (row(jacobian, targets).norm(dim=1) > 0).all()


@pytest.mark.parametrize("loss", ["cross_entropy", "cross_entropy_sign"])
@pytest.mark.parametrize("flat", [False, True])
def test_attacks_on_cross_entropy_end_where_it_vanishes(digits, loss, flat):
    """Those on the logit go on; a loss that counts as flat once it rounds to 0 ends them earlier."""
    classifier, images, targets = digits
    loud = amplified(classifier, 40)
    options = {"step_length": 0.2, "max_iterations": 30, "stop_at_success": False}
    limited = GradientAttack(loss=loss, flat_at_zero_loss=flat, **options)
    seen = seen_by(limited, loud, images, targets)
    last = {image: (told, place) for told in seen for place, image in enumerate(told.index.tolist())}
    # The largest slope of the loss by another logit that is still above 0 has this lead.
    largest = 17 if flat else 104
    ended = [image for image, (told, _) in last.items() if told.step[0] < 30]
    assert len(ended) >= 20
    for image in ended:
        told, place = last[image]
        assert told.gradient[place].abs().max() == 0
        lead = told.logits[place].sort().values
        assert lead[-1] - lead[-2] > largest - 1
        assert told.logits[place].argmax() == targets[image]
    free = GradientAttack(loss="logit", **options)(loud, images, targets)
    bound = limited(loud, images, targets)
    own = targets[ended, None]
    with torch.no_grad():
        higher = loud(free.adversarials[ended]).gather(1, own) > loud(bound.adversarials[ended]).gather(1, own)
    assert (free.iterations[ended] == 30).all()
    assert higher.float().mean() >= 0.9


@pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES.keys())
def test_what_rounds_to_zero_and_where(dtype):
    """Two logits 0 and x: the target's slope is 0 once its softmax rounds to 1, the other's once e^-x is none."""
    limits = torch.finfo(dtype)
    one, none = math.log(2 / limits.eps), math.log(2 / limits.eps) - math.log(limits.smallest_normal)
    for scale, (target, other) in (
        (one - 0.5, (1, 1)),
        (one + 0.5, (0, 1)),
        (none - 0.5, (0, 1)),
        (none + 0.5, (0, 0)),
    ):
        # Each logit has a pixel of its own, so that the gradient shows both slopes.
        weight = torch.tensor([[0.0, 1.0], [scale, 0.0]], dtype=dtype)
        classifier = Classifier(Affine(weight, torch.zeros(2, dtype=dtype)), OneHot(2)).to(dtype)
        image = torch.tensor([1.0, 0.0], dtype=dtype).view(1, 1, 1, 2).requires_grad_(True)
        loss = classifier.encoding.loss(classifier(image), torch.tensor([1]))
        (gradient,) = torch.autograd.grad(loss.sum(), image)
        assert (gradient.flatten() != 0).tolist() == [bool(target), bool(other)]
        assert (loss.item() == 0) == (not target)
