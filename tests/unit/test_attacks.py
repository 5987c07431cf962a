import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import wolfe.attacks
from tests.conftest import Affine, Small
from wolfe import Classifier, Codebook, MultiLabel, OneHot
from wolfe.attacks import (
    ATTACKS,
    IFGS,
    JMA,
    LBFGS,
    LOTS,
    MLALP,
    CarliniWagner,
    Context,
    ECOCAttack,
    GradientAttack,
    MLCarliniWagner,
    MLDeepFool,
    MultiClassOptimised,
    Observation,
    OverOptimised,
    RefinedJMA,
    SemAML,
    Status,
    build,
)
from wolfe.attacks.penalty import PenaltyAttack

PENALTY = {"learning_rate": 0.05, "max_iterations": 50, "search_steps": 5, "initial_constant": 1.0}
ALL = {
    "jma": JMA(step_size=0.1, max_iterations=60),
    "jma_refined": RefinedJMA(),
    "carlini_wagner": CarliniWagner(**PENALTY),
    "ecoc_attack": ECOCAttack(**PENALTY),
    "ml_carlini_wagner": MLCarliniWagner(**PENALTY),
    "lots": LOTS(max_iterations=200),
    "ml_deepfool": MLDeepFool(),
    "mla_lp": MLALP(),
    "sema_ml": SemAML(epsilon=0.3, step_size=0.1, max_iterations=100),
    "gradient": GradientAttack(step_length=0.1),
    "ifgs": IFGS(radius=60, grey_levels=3, max_iterations=30, stop_at_success=True),
    "lbfgs": LBFGS(initial_constant=1.0, search_steps=3, max_iterations=6),
    "over_optimised": OverOptimised(multiplier=0.25, stop_at_success=True),
    "multi_class_optimised": MultiClassOptimised(multiplier=0.25, stop_at_success=True),
}


@pytest.fixture(params=list(ALL))
def attack(request):
    chosen = ALL[request.param]
    if "encoding" in request.fixturenames and not chosen.serves(request.getfixturevalue("encoding")):
        pytest.skip("this attack does not work on this encoding")
    return chosen


def served_by(attack):
    """A three-output encoding that the attack works on: one-hot where it can be."""
    return OneHot(3) if attack.serves(OneHot(3)) else MultiLabel(3)


def as_targets(encoding, classes):
    """Targets for classes (B,) that are on alone."""
    return torch.nn.functional.one_hot(classes, 3) if encoding.multi_label else classes


def references(classifier, targets):
    """A point well inside the bitwise region of each target."""
    return Context(reference_logits=10 * classifier.encoding.signs(targets).to(classifier.device))


def norms(perturbation):
    return perturbation.flatten(1).norm(dim=1)


def optimum(classifier, image, target, bits=False):
    """The quadratic programme of an affine classifier by SciPy's SLSQP: the nearest point of the target region."""
    logits, jacobian = classifier.logits_and_jacobian(image[None])
    region = (classifier.encoding.bit_region if bits else classifier.encoding.region)(target[None])
    rows = (region.dense(logits)[0] @ jacobian[0].flatten(1)).numpy()
    offset = region.violations(logits)[0].numpy()
    solved = minimize(
        lambda d: 0.5 * d @ d,
        np.zeros(rows.shape[1]),
        jac=lambda d: d,
        constraints={"type": "ineq", "fun": lambda d: -(offset + rows @ d), "jac": lambda d: -rows},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert solved.success
    return np.linalg.norm(solved.x)


def test_all_attacks_are_tested():
    assert set(ALL) == set(ATTACKS)


def test_every_attack_lies_in_the_file_of_its_name():
    """The rules of the workflow ask for the fingerprint of `wolfe.attacks.<name>`."""
    assert [one.__module__ for one in ATTACKS.values()] == [f"wolfe.attacks.{name}" for name in ATTACKS]


def test_first_step_of_jma_is_the_optimum_of_the_quadratic_programme(affine):
    classifier, images, targets = affine
    step = JMA().linear_step(classifier, images, targets)
    assert step.converged.all()
    assert step.residual.max() <= 1e-8
    expected = [optimum(classifier, image, target) for image, target in zip(images, targets, strict=True)]
    assert np.allclose(norms(step.perturbation).numpy(), expected, rtol=1e-6)


def test_jma_needs_one_step_on_an_affine_classifier(affine):
    classifier, images, targets = affine
    if getattr(classifier.encoding, "activation", "none") == "tanh":
        # The logit region of a tanh code is not its decision: the same network without tanh is the test.
        classifier.encoding = Codebook(classifier.encoding.codewords, activation="none")
    result = JMA(step_size=0.01)(classifier, images, targets)
    assert result.success.all()
    assert (result.iterations == 6).all()
    assert (result.vjps == classifier.encoding.size).all()
    expected = norms(JMA().linear_step(classifier, images, targets).perturbation)
    assert torch.allclose(norms(result.adversarials - images), expected, rtol=1e-6)


def test_no_attack_is_closer_than_the_optimum_and_the_minimal_norm_ones_come_near(affine, attack):
    """Within 10 % of the optimum of the region it aims at, and 4 % in the median; the others have none."""
    classifier, images, targets = affine
    if isinstance(attack, PenaltyAttack):
        attack = dataclasses.replace(attack, learning_rate=0.01, max_iterations=200, search_steps=7)
    result = attack(classifier, images, targets, context=references(classifier, targets))
    assert result.success.any()
    found = norms(result.adversarials - images).numpy()[result.success.numpy()]
    if getattr(classifier.encoding, "activation", "none") == "tanh":
        return  # The decision's region is not a polyhedron in the logits: there is no such optimum.
    chosen = result.success.nonzero()[:, 0].tolist()
    nearest = np.array([optimum(classifier, images[i], targets[i]) for i in chosen])
    assert (found >= nearest * (1 - 1e-6)).all()
    if isinstance(attack, JMA | PenaltyAttack):
        bitwise = isinstance(attack, ECOCAttack | MLCarliniWagner)
        aim = np.array([optimum(classifier, images[i], targets[i], bits=bitwise) for i in chosen])
        assert (found <= 1.10 * aim).all()
        assert np.median(found / aim) <= 1.04


def test_results_keep_their_promises(convolutional, attack):
    classifier, images, targets = convolutional
    result = attack(classifier, images, targets, context=references(classifier, targets))
    assert result.adversarials.shape == images.shape
    assert result.adversarials.min() >= 0
    assert result.adversarials.max() <= 1
    with torch.no_grad():
        again = classifier.encoding.reached(classifier(result.adversarials), targets)
    assert torch.equal(again, result.success)
    assert [status is Status.FOUND for status in result.status] == result.success.tolist()
    assert result.success.float().mean() >= 0.5
    assert (result.forwards >= 1).all()
    assert (result.vjps >= 1).all()
    assert result.seconds.min() > 0
    assert torch.equal(result.first_success > 0, result.success)


def test_results_do_not_depend_on_the_batch(convolutional, attack):
    classifier, images, targets = convolutional
    together = attack(classifier, images, targets, context=references(classifier, targets))
    for i in range(0, len(images), 3):
        one = slice(i, i + 1)
        alone = attack(classifier, images[one], targets[one], context=references(classifier, targets[one]))
        assert alone.success.item() == together.success[i].item()
        assert torch.allclose(alone.adversarials[0], together.adversarials[i], atol=5e-3)


def test_results_do_not_depend_on_how_many_images_are_in_work(convolutional, attack):
    classifier, images, targets = convolutional
    context = dataclasses.replace(
        references(classifier, targets), image_ids=[f"image {number}" for number in range(len(images))]
    )
    together = attack(classifier, images, targets, context=context)
    told = []
    few = attack(
        classifier, images, targets, context=context, batch_size=2, progress=lambda done, of: told.append((done, of))
    )
    assert few.success.tolist() == together.success.tolist()
    assert torch.allclose(few.adversarials, together.adversarials, atol=5e-3)
    assert {of for _, of in told} == {len(images)} and told[-1][0] == len(images)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    with pytest.raises(ValueError, match="batch_size must be a whole number, at least 1"):
        attack(classifier, images, targets, context=context, batch_size=0)


@pytest.mark.parametrize("name", ["JMA", "RefinedJMA"])
def test_waiting_images_take_the_places_of_finished_ones(convolutional, name):
    """Never more than asked in a pass; and while images wait no batch that is smaller."""
    classifier, images, targets = convolutional
    images, targets = images.repeat(2, 1, 1, 1), targets.repeat(2, *[1] * (targets.ndim - 1))
    seen, passes = [], []
    context = Context(observer=lambda now: seen.append(now.index.tolist()))
    handle = classifier.net.register_forward_pre_hook(lambda _, given: passes.append(len(given[0])))
    options = {"step_size": 0.3, "solver": "dense"} if name == "JMA" else {}
    getattr(wolfe.attacks, name)(max_iterations=15, **options)(
        classifier, images, targets, context=context, batch_size=4
    )
    handle.remove()
    assert max(passes) == 4
    began = [max(index) for index in seen]
    full = next(step for step, last in enumerate(began) if last == len(images) - 1)
    assert all(len(index) == 4 for index in seen[:full])
    assert full < len(seen) - 1


def test_context_is_cut_with_the_batch():
    seen = []
    whole = Context(image_ids=["a", "b", "c"], labels=torch.arange(3), observer=lambda now: seen.append(now.index))
    part = whole.part(slice(1, 3))
    assert part.image_ids == ["b", "c"] and part.labels.tolist() == [1, 2] and part.reference_logits is None
    part.observer(Observation(1, torch.tensor([0, 1]), torch.zeros(2), torch.zeros(2)))
    assert seen[0].tolist() == [1, 2]


def test_batch_changes_only_one_image_when_one_image_changes(convolutional):
    classifier, images, targets = convolutional
    attack = JMA(step_size=0.1, max_iterations=30)
    first = attack(classifier, images, targets)
    changed = images.clone()
    changed[0] = 1 - changed[0]
    second = attack(classifier, changed, targets)
    assert torch.allclose(first.adversarials[1:], second.adversarials[1:], atol=1e-4)


def test_final_search_really_shortens(convolutional):
    classifier, images, targets = convolutional
    searched = JMA(step_size=1.0)(classifier, images, targets)
    inert = JMA(step_size=1.0, search="inert")(classifier, images, targets)
    both = searched.success & inert.success
    before, after = norms(inert.adversarials - images)[both], norms(searched.adversarials - images)[both]
    assert (after <= before + 1e-6).all()
    assert after.mean() < 0.995 * before.mean()


@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_an_arrival_with_the_last_step_is_counted_and_shortened(convolutional, budget):
    classifier, images, targets = convolutional
    result = JMA(step_size=0.4, max_iterations=budget)(classifier, images, targets)
    assert torch.equal(result.first_success > 0, result.success)
    assert (result.iterations[result.success] >= 6).all()
    assert (result.iterations[~result.success] <= budget).all()


def test_options_of_the_released_code(convolutional):
    classifier, images, targets = convolutional
    plain = JMA(step_size=1.0)(classifier, images, targets)
    nearest = JMA(step_size=1.0, keep="highest_psnr")(classifier, images, targets)
    assert norms(nearest.adversarials - images).mean() < norms(plain.adversarials - images).mean()
    free = JMA(step_size=1.0, clip=False)(classifier, 0.98 * images.round() + 0.01, targets)
    assert free.adversarials.min() < 0 or free.adversarials.max() > 1
    first = MLCarliniWagner(**PENALTY, keep="first")(classifier, images, targets)
    usual = MLCarliniWagner(**PENALTY)(classifier, images, targets)
    both = first.success & usual.success
    assert norms(first.adversarials - images)[both].mean() > norms(usual.adversarials - images)[both].mean()


def test_lots_by_hand():
    """One logit x, reference 1, from 0.5: steps of one grey level until the logit x - 0.52 is above 0."""
    network = Affine(torch.tensor([[1.0]]), torch.tensor([-0.52]))
    classifier = Classifier(network, MultiLabel(1))
    image, target = torch.tensor([[[[0.5]]]]), torch.tensor([[1]])
    result = LOTS()(classifier, image, target, context=Context(reference_logits=torch.tensor([[1.0]])))
    # 0.5 rounds to 128/255; the first grey level above 0.52 * 255 = 132.6 is 133.
    assert result.adversarials.item() == pytest.approx(133 / 255)
    assert result.iterations.item() == 5


def test_lots_without_a_reference_is_infeasible_for_that_image_alone(convolutional):
    classifier, images, targets = convolutional
    logits = references(classifier, targets).reference_logits
    logits[2] = torch.nan
    result = LOTS(max_iterations=100)(classifier, images, targets, context=Context(reference_logits=logits))
    assert result.status[2] is Status.INFEASIBLE
    assert Status.FOUND in result.status


def test_images_already_at_their_target_are_left_alone(convolutional, attack):
    classifier, images, _ = convolutional
    with torch.no_grad():
        targets = classifier.decide(images)
    result = attack(classifier, images, targets, context=references(classifier, targets))
    assert result.success.all()
    assert set(result.status) == {Status.ALREADY_THERE}
    assert torch.equal(result.adversarials, images)
    assert result.iterations.sum() == 0


def test_the_classifier_is_left_as_it_was(convolutional, attack):
    classifier, images, targets = convolutional
    context = references(classifier, targets)
    expected = attack(classifier, images, targets, context=context)
    classifier.train()
    classifier.net.layers[1].eval()
    classifier.net.layers[0].weight.requires_grad_(False)
    statistics = classifier.net.layers[1].running_mean.clone()
    result = attack(classifier, images, targets, context=context)
    assert torch.equal(result.adversarials, expected.adversarials)
    assert classifier.training
    assert not classifier.net.layers[1].training
    assert not classifier.net.layers[0].weight.requires_grad
    assert classifier.net.layers[-1].weight.requires_grad
    assert classifier.net.layers[-1].weight.grad is None
    assert torch.equal(classifier.net.layers[1].running_mean, statistics)


def test_zero_jacobian_has_an_outcome(attack):
    encoding = served_by(attack)
    classifier = Classifier(Affine(torch.zeros(3, 16), torch.tensor([1.0, 0.0, 0.0])), encoding)
    images, targets = torch.rand(2, 1, 4, 4), as_targets(encoding, torch.tensor([1, 2]))
    result = attack(classifier, images, targets, context=references(classifier, targets))
    assert not result.success.any()
    expected = Status.INFEASIBLE if isinstance(attack, JMA | RefinedJMA | MLALP | MLDeepFool) else Status.EXHAUSTED
    assert set(result.status) == {expected}


def test_rank_deficient_jacobian_is_solved():
    """Labels 0 and 1 share a logit's gradient; flipping both is one constraint's work, opposing ones are infeasible."""
    weight = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    classifier = Classifier(Affine(weight, torch.tensor([-0.6, -0.7, -0.9])), MultiLabel(3))
    images = torch.full((2, 1, 2, 2), 0.5)
    targets = torch.tensor([[1, 1, 0], [0, 1, 0]])
    result = JMA(step_size=0.1)(classifier, images, targets)
    assert result.status == [Status.FOUND, Status.INFEASIBLE]
    assert norms(result.adversarials - images)[0].item() == pytest.approx(0.2, rel=1e-4)


class Poisoned(torch.nn.Module):
    """Returns NaN for bright images."""

    def forward(self, images):
        logits = images.flatten(1)[:, :3] - 0.5
        return torch.where(images.flatten(1).amax(dim=1, keepdim=True) > 0.9, torch.nan, logits)


def test_nan_from_the_network_marks_that_image_alone(attack):
    images = 0.4 + 0.2 * torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    images[1, 0, 1, 1] = 0.95
    classifier = Classifier(Poisoned(), served_by(attack))
    targets = as_targets(classifier.encoding, (images.flatten(1)[:, :3].argmax(dim=1) + 1) % 3)
    result = attack(classifier, images, targets, context=references(classifier, targets))
    assert result.status[1] is Status.NOT_FINITE
    assert not result.success[1]
    assert result.success[[0, 2]].all()


class Slow(Small):
    """Takes its time."""

    def forward(self, images):
        torch.linalg.eigvalsh(torch.rand(400, 400))
        return super().forward(images)


def test_time_limit_ends_an_image(attack):
    torch.manual_seed(0)
    classifier = Classifier(Slow(3), served_by(attack)).eval()
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        decided = classifier.decide(images)
    targets = 1 - decided if classifier.encoding.multi_label else (decided + 1) % 3
    limited = dataclasses.replace(attack, time_limit=1e-4)
    result = limited(classifier, images, targets, context=references(classifier, targets))
    assert set(result.status) == {Status.TIMED_OUT}
    assert (result.forwards <= 4).all()


def test_observer_sees_every_step(convolutional):
    classifier, images, targets = convolutional
    seen = []
    context = Context(observer=lambda now: seen.append((now.step, len(now.images), now.logits.shape[1])))
    JMA(step_size=0.05, max_iterations=4)(classifier, images, targets, context=context)
    assert [step.unique().tolist() for step, _, _ in seen] == [[1], [2], [3], [4]]
    assert seen[0][1:] == (len(images), classifier.encoding.size)


def test_progress_is_told(convolutional):
    classifier, images, targets = convolutional
    told = []
    JMA()(classifier, images, targets, progress=lambda done, total: told.append((done, total)))
    assert told[-1][1] == len(images)


def test_an_empty_batch_is_fine(convolutional, attack):
    classifier, images, targets = convolutional
    result = attack(classifier, images[:0], targets[:0], context=references(classifier, targets[:0]))
    assert result.adversarials.shape == (0, 1, 8, 8)
    assert result.status == []


def test_rows_of_a_study_become_attacks():
    assert build({"attack": "jma", "step_size": 0.05}) == JMA(step_size=0.05)
    assert build({"attack": "lots", "time_limit": 5.0}) == LOTS(time_limit=5.0)


def test_every_status_says_what_it_means():
    assert all(status.meaning for status in Status)
