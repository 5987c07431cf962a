"""What is noted of every step of an attack along a gradient, against the same worked out image by image."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import Affine, Small
from wolfe import Classifier, OneHot
from wolfe.attacks import IFGS, LBFGS, Context, GradientAttack, Observation
from wolfe.experiments.step_trace import NAMES, StepTrace

IDS = ["c", "a", "d", "b", "e", "f"]


@pytest.fixture
def case():
    """An affine classifier of six classes, images, the classes decided and targets."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(6, 64, generator=generator)
    images = (0.5 + 0.15 * torch.randn(6, 1, 8, 8, generator=generator)).clamp(0.2, 0.8)
    classifier = Classifier(Affine(weight, -(images.flatten(1) @ weight.T).mean(dim=0)), OneHot(6))
    initial = classifier.decide(images).detach()
    return classifier, images, initial, (initial + 1 + torch.arange(6) % 5) % 6


def traced(attack, case, batch_size=None, order=None):
    classifier, images, initial, target = case
    order = list(range(6)) if order is None else order
    observer = StepTrace([IDS[i] for i in order], images[order], initial[order], target[order])
    context = Context(observer=observer)
    result = attack(classifier, images[order], target[order], context=context, batch_size=batch_size)
    return observer.frame(), result


def wide(frame):
    return frame.set_index(["image_id", "step", "name"])["value"].unstack()  # noqa: PD010


ATTACK = GradientAttack(setting="equal_multiplier", multiplier=0.02, max_iterations=7, stop_at_success=False)


def test_the_values_of_every_step_are_those_of_the_way_that_the_attack_takes(case):
    """The way of plain gradient steps, taken by hand."""
    classifier, images, initial, target = case
    table = wide(traced(ATTACK, case)[0])
    assert list(table.columns) == sorted(NAMES)
    for place, name in enumerate(IDS):
        image, start = images[place : place + 1].clone(), images[place : place + 1]
        for step in range(8):
            inputs = image.clone().requires_grad_(True)
            logits = classifier(inputs)
            (gradient,) = torch.autograd.grad(-logits[0].log_softmax(dim=0)[target[place]], inputs)
            logits = logits.detach()
            softmax = logits[0].softmax(dim=0)
            line = table.loc[name, step]
            assert line["softmax_initial"] == pytest.approx(float(softmax[initial[place]]), rel=1e-4, abs=1e-6)
            assert line["softmax_target"] == pytest.approx(float(softmax[target[place]]), rel=1e-4, abs=1e-6)
            assert line["logit_initial"] == pytest.approx(float(logits[0, initial[place]]), abs=1e-4)
            assert line["logit_target"] == pytest.approx(float(logits[0, target[place]]), abs=1e-4)
            assert line["gradient_magnitude"] == pytest.approx(float(gradient.norm()), rel=1e-4)
            assert line["l2"] == pytest.approx(float((image - start).norm()), abs=1e-5)
            assert line["linf"] == pytest.approx(float((image - start).abs().max()), abs=1e-6)
            assert line["reached"] == float(logits.argmax() == target[place])
            image = (image - 0.02 * gradient).clamp(0, 1)


def test_the_first_step_at_the_target_is_the_attacks_own(case):
    frame, result = traced(ATTACK, case)
    reached = wide(frame)["reached"].unstack()  # noqa: PD010
    for place, name in enumerate(IDS):
        steps = np.flatnonzero(reached.loc[name].to_numpy() == 1)
        assert int(result.first_success[place]) == (steps[0] if len(steps) else 0)
    assert (result.first_success > 0).any()


def test_neither_batches_nor_order_change_what_is_noted(case):
    whole, _ = traced(ATTACK, case)
    for batch_size, order in ((2, None), (5, [3, 0, 5, 1, 4, 2]), (1, [5, 4, 3, 2, 1, 0])):
        frame, _ = traced(ATTACK, case, batch_size, order)
        pd.testing.assert_frame_equal(frame, whole, rtol=1e-4, atol=1e-5)


def test_lines_are_sorted_and_typed(case):
    frame, _ = traced(IFGS(max_iterations=3), case)
    assert list(frame.columns) == ["image_id", "step", "name", "value"]
    again = frame.sort_values(["image_id", "step", "name"], ignore_index=True)
    pd.testing.assert_frame_equal(frame, again)
    assert len(frame) == 6 * 4 * len(NAMES)
    assert [str(kind) for kind in frame.dtypes][1::2] == ["int64", "float64"]


def test_an_image_that_ends_has_no_further_lines(case):
    early = GradientAttack(setting="equal_multiplier", multiplier=0.02, max_iterations=7, stop_at_success=True)
    frame, result = traced(early, case)
    made = frame.groupby("image_id")["step"].max()
    assert [made[name] for name in IDS] == result.iterations.tolist()


def test_evaluations_of_all_runs_are_counted_on(case):
    """L-BFGS begins to count anew with each of its runs; every evaluation has a line of its own here."""
    frame, result = traced(LBFGS(search_steps=3, max_iterations=4), case)
    steps = frame[frame["name"] == "l2"].groupby("image_id")["step"].apply(list)
    # One forward pass tells whether an image is at its target before, one gives the verdict.
    evaluations = dict(zip(IDS, result.vjps.tolist(), strict=True))
    assert all(steps[name] == list(range(evaluations[name])) for name in IDS)


def test_gradients_too_short_for_squares_in_single_precision_keep_their_length():
    observer = StepTrace(["a"], torch.zeros(1, 1, 2, 2), torch.tensor([0]), torch.tensor([1]))
    gradient = torch.full((1, 1, 2, 2), 1e-30)
    logits = torch.tensor([[0.0, 200.0]])
    observer(Observation(0, torch.tensor([0]), torch.zeros(1, 1, 2, 2), logits, gradient=gradient))
    observer(Observation(1, torch.tensor([0]), torch.zeros(1, 1, 2, 2), logits))
    values = wide(observer.frame()).loc["a"]
    assert values.loc[0, "gradient_magnitude"] == pytest.approx(2e-30)
    assert np.isnan(values.loc[1, "gradient_magnitude"])
    assert (values.loc[0, "softmax_target"], values.loc[0, "softmax_initial"]) == (1, 0)


def test_nothing_seen_gives_an_empty_frame():
    frame = StepTrace([], torch.zeros(0, 1, 2, 2), torch.zeros(0).long(), torch.zeros(0).long()).frame()
    assert (len(frame), list(frame.columns)) == (0, ["image_id", "step", "name", "value"])


def test_noting_changes_nothing_about_the_attack():
    torch.manual_seed(0)
    classifier = Classifier(Small(6), OneHot(6), mean=[0.5], std=[0.25]).eval()
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    initial = classifier.decide(images).detach()
    target = (initial + 1) % 6
    plain = ATTACK(classifier, images, target)
    seen = ATTACK(classifier, images, target, context=Context(observer=StepTrace(IDS[:4], images, initial, target)))
    assert torch.equal(plain.adversarials, seen.adversarials)


@pytest.mark.parametrize(
    ("starts", "initial", "target", "message"),
    [
        (2, torch.zeros(2, 3).long(), torch.zeros(2).long(), "got initial classes of shape \\(2, 3\\)"),
        (2, torch.zeros(2).long(), torch.zeros(2, 3).long(), "label vectors have no single class"),
        (3, torch.zeros(2).long(), torch.zeros(2).long(), "of 2 images got 3 images"),
    ],
)
def test_what_is_no_class_an_image_is_refused(starts, initial, target, message):
    with pytest.raises(ValueError, match=message):
        StepTrace(["a", "b"], torch.zeros(starts, 1, 2, 2), initial, target)
