"""The losses of training: hand-solved values, independent formulas, gradients, and which of them training lowers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from tests.unit.test_training import MULTI, SEED, TRAINING, bars
from wolfe.data import open_split
from wolfe.data.writer import write_source
from wolfe.encoding import Codebook, MultiLabel, OneHot, hadamard
from wolfe.models import load_classifier, train_model
from wolfe.models.losses import LOSSES, AsymmetricLoss, categorical_hinge, hinge, training_loss

NAMES = list(LOSSES["multi_label"])


def drawn(seed, images=5, labels=7, scale=4.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(images, labels, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, 2, (images, labels), generator=generator)


def test_hinge_asks_for_a_margin_of_one_on_each_label():
    logits, labels = torch.tensor([[2.0, -0.5, 0.5], [1.0, -1.0, -9.0]]), torch.tensor([[1, 0, 0], [1, 0, 0]])
    torch.testing.assert_close(hinge(logits, labels), torch.tensor([(0 + 0.5 + 1.5) / 3, 0.0]))


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([0.3, 0.4, 0.2, -5.0], [1, 1, 0, 0], 1 + 0.2 - 0.7),
        ([0.3, 0.4, -0.2, -5.0], [1, 1, 0, 0], 1 + 0.0 - 0.7),  # labels that are on are 0 in the maximum
        ([3.0, -1.0, 0.5, 1.0], [1, 1, 0, 0], 1 + 1.0 - 2.0),
        ([3.0, 0.0, 0.5, 1.0], [1, 1, 0, 0], 0.0),
        ([-3.0, -2.0, -0.5, -1.0], [0, 0, 0, 0], 1 - 0.5),
        ([1.5, 2.0, 0.5, 1.0], [0, 1, 0, 0], 1 + 1.5 - 2.0),
    ],
)
def test_categorical_hinge_compares_a_sum_with_a_maximum(logits, labels, expected):
    found = categorical_hinge(torch.tensor([logits]), torch.tensor([labels]))
    torch.testing.assert_close(found, torch.tensor([expected]))


def by_hand(logits, labels, negative, positive, clip):
    """The asymmetric loss label by label, in NumPy."""
    total = 0.0
    for logit, label in zip(logits, labels, strict=True):
        p = 1 / (1 + np.exp(-logit))
        q = max(p - clip, 0.0)
        total -= (1 - p) ** positive * np.log(p) if label else q**negative * np.log(1 - q)
    return total / len(logits)


@given(st.integers(0, 1000), st.floats(0, 5), st.floats(0, 3), st.floats(0, 0.3))
def test_asymmetric_loss_is_the_papers(seed, negative, positive, clip):
    logits, labels = drawn(seed)
    expected = [by_hand(*pair, negative, positive, clip) for pair in zip(logits.numpy(), labels.numpy(), strict=True)]
    found = AsymmetricLoss(negative, positive, clip)(logits, labels)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-14)


@given(st.integers(0, 1000))
def test_asymmetric_loss_without_asymmetry_is_binary_cross_entropy(seed):
    logits, labels = drawn(seed, scale=20.0)
    found = AsymmetricLoss(0.0, 0.0, 0.0)(logits, labels)
    torch.testing.assert_close(found, MultiLabel(7).loss(logits, labels), rtol=1e-9, atol=1e-12)


def test_asymmetric_loss_is_the_binary_one_for_labels_that_are_on_and_lower_for_others():
    logits, labels = drawn(1)
    asymmetric = AsymmetricLoss()
    assert asymmetric == AsymmetricLoss(gamma_negative=4, gamma_positive=0, clip=0.05)
    on, off = torch.ones_like(labels), torch.zeros_like(labels)
    cross = functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(asymmetric(logits, on), cross(logits, on.double(), reduction="none").mean(1))
    assert bool((asymmetric(logits, off) < cross(logits, off.double(), reduction="none").mean(1)).all())
    easy = torch.full((1, 3), -3.0)  # less probable than the clip
    assert asymmetric(easy, torch.zeros(1, 3)).item() == 0.0


@pytest.mark.parametrize("loss", [hinge, categorical_hinge, AsymmetricLoss(), AsymmetricLoss(2, 1, 0.0)])
def test_gradients_are_derivatives(loss):
    logits, labels = drawn(3)
    assert torch.autograd.gradcheck(lambda values: loss(values, labels), (logits.requires_grad_(),))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_large_logits_give_finite_losses_and_gradients(name, size):
    logits = torch.tensor([[size, -size, size, -size, 0.0]], requires_grad=True)
    loss = training_loss(MultiLabel(5), name)(logits, torch.tensor([[1, 1, 0, 0, 1]]))
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all()
    assert loss.item() > 1


def test_losses_do_not_depend_on_the_batch():
    logits, labels = drawn(5)
    for name in NAMES:
        loss = training_loss(MultiLabel(7), name)
        torch.testing.assert_close(
            torch.cat([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(5)]), loss(logits, labels)
        )


def test_the_first_loss_of_an_encoding_is_its_own():
    for encoding in (OneHot(3), Codebook(hadamard(4, 3)), MultiLabel(3)):
        kind = encoding.to_dict()["kind"]
        assert training_loss(encoding, None) == training_loss(encoding, next(iter(LOSSES[kind]))) == encoding.loss
    with pytest.raises(ValueError, match="one_hot is trained with cross_entropy, got 'asymmetric'"):
        training_loss(OneHot(3), "asymmetric")
    with pytest.raises(ValueError, match="multi_label is trained with binary_cross_entropy, hinge, categorical_hinge"):
        training_loss(MultiLabel(3), "cross_entropy")


@pytest.mark.parametrize("wrong", [{"gamma_negative": -1.0}, {"gamma_positive": -0.5}, {"clip": 1.0}, {"clip": -0.1}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValueError, match=r"exponents must not be negative, clip in \[0, 1\)"):
        AsymmetricLoss(**wrong)


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_that_it_is_told(name, tmp_path):
    write_source("bars", "bars", bars(2, "multi", channels=3), tmp_path / "data")
    spec = {**MULTI, "loss": name, "training": {**TRAINING, "schedule": "constant"}}
    train_model("multi", spec, tmp_path / "data", tmp_path / "out", tmp_path / "store", SEED, "cpu")
    with (tmp_path / "out" / "training.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    classifier, part = load_classifier(tmp_path / "out"), open_split(tmp_path / "data", "validation")
    logits, labels = classifier(part.images(range(len(part)))).double(), part.labels
    on = labels.bool()
    expected = {
        "binary_cross_entropy": functional.binary_cross_entropy_with_logits(logits, labels.double()),
        "hinge": torch.where(on, 1 - logits, 1 + logits).relu().mean(),
        "categorical_hinge": (1 + logits.masked_fill(on, 0.0).max(1).values - logits.masked_fill(~on, 0.0).sum(1))
        .relu()
        .mean(),
        "asymmetric": torch.tensor(
            np.mean([by_hand(*pair, 4, 0, 0.05) for pair in zip(logits.numpy(), labels.numpy(), strict=True)])
        ),
    }[name]
    nearest = min(rows, key=lambda row: abs(float(row["validation_loss"]) - expected.item()))
    assert float(nearest["validation_loss"]) == pytest.approx(expected.item(), rel=1e-4)
    # What attacks follow stays the encoding's own.
    own = functional.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").mean(1)
    torch.testing.assert_close(classifier.encoding.loss(logits, labels), own)
