"""Peers' attacks as attacks of ours: on stand-ins for the libraries, and on the libraries where they are installed."""

import importlib
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from tests.conftest import Affine, Small
from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.attacks import JMA, Status
from wolfe.attacks.peers import AdvLibAttack, FoolboxAttack, OthersOrTarget, TorchattacksAttack
from wolfe.classifier import ready_for_attack

KINDS = {"adv-lib": AdvLibAttack, "foolbox": FoolboxAttack, "torchattacks": TorchattacksAttack}
REAL = [
    (AdvLibAttack, "ddn", {"steps": 200, "levels": None, "init_norm": 0.3}),
    (AdvLibAttack, "fmn", {"steps": 200, "α_init": 0.1}),  # noqa: RUF001 (the library's own name)
    (AdvLibAttack, "fab", {"n_iter": 30}),
    (AdvLibAttack, "carlini_wagner_l2", {"max_iterations": 200, "binary_search_steps": 4, "initial_const": 0.1}),
    (FoolboxAttack, "DDNAttack", {"steps": 200, "init_epsilon": 0.3}),
    (FoolboxAttack, "L2CarliniWagnerAttack", {"steps": 200, "binary_search_steps": 4, "initial_const": 0.1}),
    (TorchattacksAttack, "CW", {"steps": 1000, "lr": 0.003, "c": 2}),
    (TorchattacksAttack, "FAB", {"steps": 30}),
]


@pytest.fixture
def linear():
    """An affine classifier of three classes, images away from 0 and 1, and the next class as target."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 16, generator=generator)
    images = (0.5 + 0.15 * torch.randn(5, 1, 4, 4, generator=generator)).clamp(0.1, 0.9)
    bias = -(images.flatten(1) @ weight.T).mean(dim=0)
    classifier = Classifier(Affine(weight, bias), OneHot(3))
    return classifier, images, (classifier.decide(images) + 1) % 3


def pretend(monkeypatch, **attacks):  # noqa: ANN003
    """Puts functions in the place of adv-lib's."""
    monkeypatch.setitem(sys.modules, "adv_lib.attacks", SimpleNamespace(**attacks))


def descend(model, inputs, labels, targeted, steps, rate=0.2):
    """Gradient steps on the cross-entropy, and the image as it is then."""
    assert targeted
    for _ in range(steps):
        inputs = inputs.detach().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
        inputs = inputs - rate * torch.autograd.grad(loss, inputs)[0]
    return inputs


@pytest.mark.parametrize("package", KINDS)
def test_a_missing_library_is_named(package, monkeypatch, linear):
    monkeypatch.setitem(sys.modules, KINDS[package].module, None)
    with pytest.raises(ModuleNotFoundError, match=f"{KINDS[package].__name__} needs {package}.*install {package}"):
        KINDS[package](attack="anything")(*linear)


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("encoding", [MultiLabel(4), Codebook(hadamard(4, 3))])
def test_one_hot_alone(kind, encoding):
    classifier = Classifier(Affine(torch.eye(4), torch.zeros(4)), encoding)
    with pytest.raises(ValueError, match=f"{kind.__name__} does not work on the encoding {type(encoding).__name__}"):
        kind(attack="ddn")(classifier, torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))


def test_an_unknown_attack_is_named(monkeypatch, linear):
    pretend(monkeypatch, ddn=descend)
    with pytest.raises(ValueError, match="adv-lib has no attack 'dnd'"):
        AdvLibAttack(attack="dnd")(*linear)


def test_passes_are_counted_where_they_happen(monkeypatch, linear):
    pretend(monkeypatch, descend=descend)
    result = AdvLibAttack(attack="descend", options={"steps": 30})(*linear)
    assert result.success.all()
    assert result.vjps.tolist() == [30] * 5
    assert result.forwards.tolist() == [31] * 5  # and the one that every attack begins with
    assert result.iterations.tolist() == [30] * 5
    assert result.jvps.sum() == 0
    # The pass at which an image was first at its target, which needs at least one step.
    assert ((result.first_success > 1) & (result.first_success <= 30)).all()


def test_a_part_of_the_batch_is_counted_as_a_share(monkeypatch, linear):
    def some(model, inputs, labels, targeted):
        model(inputs)
        model(inputs[:2])
        return inputs

    pretend(monkeypatch, some=some)
    result = AdvLibAttack(attack="some")(*linear)
    assert result.forwards.tolist() == [1 + 2] * 5  # 7 images through the network for 5: 1.4, rounded up
    assert result.vjps.sum() == 0
    assert set(result.status) == {Status.EXHAUSTED}


def test_the_verdict_is_our_own(monkeypatch, linear):
    classifier, images, targets = linear

    def wrong(model, inputs, labels, targeted):
        found = inputs.clone()
        found[0] = torch.nan
        found[1] += 7
        return found

    pretend(monkeypatch, wrong=wrong)
    result = AdvLibAttack(attack="wrong")(classifier, images, targets)
    assert result.status[0] == Status.NOT_FINITE
    assert torch.equal(result.adversarials[0], images[0])
    assert bool((result.adversarials[1] == 1).all())
    assert result.success.tolist() == (classifier.decide(result.adversarials) == targets).tolist()


def test_images_at_their_target_are_left_out(monkeypatch, linear):
    classifier, images, targets = linear
    targets[2] = classifier.decide(images)[2]
    seen = []

    def note(model, inputs, labels, targeted):
        seen.append(labels.tolist())
        return inputs

    pretend(monkeypatch, note=note)
    result = AdvLibAttack(attack="note")(classifier, images, targets)
    assert seen == [targets[[0, 1, 3, 4]].tolist()]
    assert result.status[2] == Status.ALREADY_THERE
    assert result.forwards.tolist() == [1] * 5


def test_a_mode_that_a_library_changes_is_put_back(monkeypatch):
    torch.manual_seed(0)
    classifier = Classifier(Small(6), OneHot(6)).eval()
    images = torch.rand(4, 1, 8, 8)
    targets = (classifier.decide(images) + 1) % 6

    def meddle(model, inputs, labels, targeted):
        model.train()
        return inputs

    pretend(monkeypatch, meddle=meddle)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    AdvLibAttack(attack="meddle")(classifier, images, targets)
    assert not any(module.training for module in classifier.modules())
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_the_same_seed_draws_the_same(monkeypatch, linear):
    def noise(model, inputs, labels, targeted):
        return inputs + 0.1 * torch.randn_like(inputs)

    pretend(monkeypatch, noise=noise)
    state = torch.random.get_rng_state()
    first, second = (AdvLibAttack(attack="noise")(*linear).adversarials for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())


def test_fab_runs_on_two_classes(monkeypatch, linear):
    seen = {}

    def fab(model, inputs, labels, norm):
        seen.update(norm=norm, labels=labels.tolist(), logits=model(inputs))
        return inputs

    pretend(monkeypatch, fab=fab)
    classifier, images, targets = linear
    AdvLibAttack(attack="fab")(classifier, images, targets)
    logits = classifier(images).detach()
    assert (seen["norm"], seen["labels"]) == (2, [0] * 5)
    for row in range(5):
        others = [float(logits[row, i]) for i in range(3) if i != targets[row]]
        assert seen["logits"][row].tolist() == pytest.approx([max(others), float(logits[row, targets[row]])])


def test_two_classes_need_all_the_images(linear):
    classifier, images, targets = linear
    with pytest.raises(ValueError, match="5 targets do not tell which of them 2 images have"):
        OthersOrTarget(classifier, targets)(images[:2])


@pytest.mark.parametrize(("kind", "name", "options"), REAL, ids=[f"{kind.package} {name}" for kind, name, _ in REAL])
def test_on_a_linear_network_peers_come_near_the_projection(kind, name, options, linear):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries' own making, when they are imported
        try:
            importlib.import_module(kind.module)
        except ModuleNotFoundError:
            pytest.skip(f"{kind.package} is not installed: `make benchmark` installs it")
    classifier, images, targets = linear
    result = kind(attack=name, options=options)(classifier, images, targets)
    with ready_for_attack(classifier):
        least = JMA().linear_step(classifier, images, targets).perturbation.flatten(1).norm(dim=1)
    distance = (result.adversarials - images).flatten(1).norm(dim=1)
    assert result.success.all()
    assert (distance >= 0.999 * least).all()
    assert (distance <= 1.35 * least).all()
    assert (result.vjps > 0).all()
    assert (result.forwards > result.vjps / 2).all()
