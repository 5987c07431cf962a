"""Ascents on logits: steps by hand, the second class, and what they have in common with every attack."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Affine
from wolfe import Classifier, Codebook, MultiLabel, OneHot, hadamard
from wolfe.attacks import Context, MultiClassOptimised, OverOptimised, Status, build
from wolfe.attacks.multi_class_optimised import second_class


def picture(*values: float):
    """One image (1, 1, 1, width)."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def of_classes(weight, std=1.0):
    """A classifier with logits weight @ (x - 0.25) / std, in double precision."""
    weight = torch.tensor(weight, dtype=torch.float64)
    network = Affine(weight, torch.zeros(len(weight), dtype=torch.float64))
    return Classifier(network, OneHot(len(weight)), [0.25], [std]).double()


def watched(attack, classifier, images, targets, **context: object):
    seen = []
    result = attack(classifier, images, targets, context=Context(observer=seen.append, **context))
    return result, seen


EYE = torch.eye(3).tolist()


@pytest.mark.parametrize("std", [1.0, 0.5])
def test_a_step_is_that_of_the_normalised_input(std):
    """Logits (x - 0.25) / std: u moves by 0.15, the logit of the target too, and the image by std times that."""
    classifier, image = of_classes(EYE, std), picture(0.5, 0.3, 0.3)
    result, seen = watched(OverOptimised(max_iterations=2), classifier, image, torch.tensor([1]))
    moved = [(told.images - image).flatten().tolist() for told in seen]
    assert moved[1] == pytest.approx([0, 0.15 * std, 0])
    assert moved[2] == pytest.approx([0, 0.3 * std, 0])
    logits = [told.logits[0, 1].item() for told in seen]
    assert [after - before for before, after in pairwise(logits)] == pytest.approx([0.15, 0.15])
    assert seen[0].gradient.flatten().tolist() == pytest.approx([0, 0.15 * std, 0])
    assert (result.iterations.item(), result.forwards.item(), result.vjps.item()) == (2, 4, 3)


def test_it_goes_on_after_success_until_nothing_moves():
    """From 0.3 the value of class 1 passes 0.5 after two steps, ends at 1 after five, and stays."""
    classifier, image = of_classes(EYE), picture(0.5, 0.3, 0.3)
    result, seen = watched(OverOptimised(), classifier, image, torch.tensor([1]))
    assert result.status == [Status.FOUND]
    assert (result.first_success.item(), result.iterations.item(), len(seen)) == (2, 5, 6)
    assert result.adversarials.flatten().tolist() == pytest.approx([0.5, 1, 0.3])
    stopped = OverOptimised(stop_at_success=True)(classifier, image, torch.tensor([1]))
    assert stopped.adversarials.flatten().tolist() == pytest.approx([0.5, 0.6, 0.3])


def test_the_state_keeps_its_decimals():
    """A step of a fifth of a grey level adds up; rounded after each it would never move."""
    classifier, image = of_classes(EYE), picture(0.6, 100 / 255, 0.3)
    result = OverOptimised(multiplier=0.2 / 255, max_iterations=5)(classifier, image, torch.tensor([1]))
    assert (255 * result.adversarials).flatten()[1].item() == pytest.approx(101)


def test_the_class_that_is_behind_moves_twice_as_far():
    """Logits of classes 1 and 2 begin at 0 and 0.1 above the mean; the true class 0 is never pushed."""
    classifier, image = of_classes(EYE), picture(0.6, 0.25, 0.35)
    result, seen = watched(
        MultiClassOptimised(max_iterations=4), classifier, image, torch.tensor([1]), labels=torch.tensor([0])
    )
    ways = [told.logits.flatten().tolist()[1:] for told in seen]
    expected = [[0, 0.1], [0.1, 0.15], [0.2, 0.2], [0.3, 0.25], [0.35, 0.35]]
    assert [pytest.approx(way, abs=1e-12) for way in expected] == ways
    assert {told.logits[0, 0].item() for told in seen} == {0.35}
    assert result.iterations.item() == 4


def test_both_classes_stay_side_by_side_and_leave_the_others_behind():
    """Once they have met, neither leads by more than a step can change; at the end they are the two highest."""
    generator = torch.Generator().manual_seed(7)
    classifier = of_classes(torch.randn(6, 12, generator=generator).tolist())
    images = 0.4 + 0.2 * torch.rand(5, 1, 3, 4, dtype=torch.float64, generator=generator)
    targets = (classifier.decide(images) + 2) % 6
    _, seen = watched(MultiClassOptimised(max_iterations=12), classifier, images, targets, labels=(targets + 1) % 6)
    second = torch.tensor([second_class(0, "", int(target), int(target + 1) % 6, 6) for target in targets])
    places = torch.arange(5)
    leads = torch.stack([told.logits[places, targets] - told.logits[places, second] for told in seen])
    met = leads[:-1].sign() != leads[:1].sign()
    met = met.cumsum(dim=0) > 0
    assert met.any(dim=0).all()
    assert (leads[1:][met].abs() <= (leads[1:] - leads[:-1]).abs().max()).all()
    best = seen[-1].logits.topk(2, dim=1).indices.sort(dim=1).values
    assert torch.equal(best, torch.stack([targets, second], dim=1).sort(dim=1).values)


def test_attacks_of_a_study_and_what_they_refuse():
    assert build({"attack": "over_optimised"}) == OverOptimised(multiplier=0.15, max_iterations=500)
    attack = build({"attack": "multi_class_optimised", "multiplier": 0.2})
    assert (attack.multiplier, attack.smaller_multiplier, attack.stop_at_success) == (0.2, 0.05, False)
    with pytest.raises(ValueError, match=r"smaller_multiplier must be at most the multiplier 0.1, got 0.2"):
        MultiClassOptimised(smaller_multiplier=0.2)
    for wrong in ({"multiplier": 0.0}, {"multiplier": math.nan}, {"max_iterations": 0}):
        with pytest.raises(ValueError, match="must be"):
            OverOptimised(**wrong)


def test_they_serve_classes_with_a_logit_each():
    for encoding in (MultiLabel(4), Codebook(hadamard(4, 3)), Codebook(hadamard(4, 3), activation="none")):
        assert not OverOptimised().serves(encoding)
        assert not MultiClassOptimised().serves(encoding)
    assert OverOptimised().serves(OneHot(2))
    assert not MultiClassOptimised().serves(OneHot(2))
    with pytest.raises(ValueError, match="MultiClassOptimised does not work on the encoding OneHot"):
        MultiClassOptimised()(of_classes([[1.0], [0.0]]), picture(0.4), torch.tensor([1]))


@settings(deadline=None)
@given(st.integers(0, 50), st.text(max_size=8), st.integers(3, 30), st.data())
def test_the_second_class_is_neither_target_nor_true_class(seed, name, classes, data):
    target, label = (data.draw(st.integers(0, classes - 1)) for _ in range(2))
    found = second_class(seed, name, target, label, classes)
    assert 0 <= found < classes
    assert found not in (target, label)
    assert found == second_class(seed, name, target, label, classes)


def test_every_other_class_is_drawn_about_as_often():
    counts = torch.bincount(
        torch.tensor([second_class(0, f"test-{number}", 3, 1, 6) for number in range(4000)]), minlength=6
    )
    assert counts[[1, 3]].sum() == 0
    # Four classes with 1000 each; 4.5 standard deviations are 123.
    assert (counts[[0, 2, 4, 5]] - 1000).abs().max() < 123
    with pytest.raises(ValueError, match="needs at least 3 classes, got 2"):
        second_class(0, "test-0", 0, 1, 2)


def test_the_second_class_belongs_to_the_image_and_not_to_its_place():
    """The same image alone, in another order, and in batches of two ends where it ends among others."""
    generator = torch.Generator().manual_seed(2)
    classifier = of_classes(torch.randn(8, 12, generator=generator).tolist())
    images = 0.3 + 0.4 * torch.rand(6, 3, 2, 2, dtype=torch.float64, generator=generator)
    classifier.mean = classifier.mean.expand(1, 1, 1, 1)
    labels = classifier.decide(images)
    targets, names = (labels + 3) % 8, [f"test-{number}" for number in range(6)]
    attack = MultiClassOptimised(max_iterations=6)

    def ends(order, **options: object):
        context = Context(image_ids=[names[place] for place in order], seed=4, labels=labels[order])
        return attack(classifier, images[order], targets[order], context=context, **options).adversarials

    together = ends(list(range(6)))
    assert torch.equal(ends(list(range(6)), batch_size=2), together)
    assert torch.equal(ends([4, 0, 5]), together[[4, 0, 5]])
    assert torch.equal(ends([3]), together[[3]])
    other = attack(classifier, images, targets, context=Context(image_ids=names, seed=5, labels=labels))
    assert not torch.equal(other.adversarials, together)
