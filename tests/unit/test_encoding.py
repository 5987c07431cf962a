import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ENCODINGS
from wolfe import Codebook, MultiLabel, OneHot, hadamard
from wolfe.encoding import encoding_from_dict


def random_logits(encoding, seed, images=40):
    return 2 * torch.randn(images, encoding.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_decisions_by_hand():
    logits = torch.tensor([[0.1, 0.3, -2.0], [-1.0, -3.0, -0.5]])
    assert OneHot(3).decide(logits).tolist() == [1, 2]
    assert MultiLabel(3).decide(logits).tolist() == [[1, 1, 0], [0, 0, 0]]
    words = torch.tensor([[1.0, 1, 1], [1, -1, -1]])
    # Correlations of the tanh outputs: 0.099 + 0.291 - 0.964 < 0, so the second word wins.
    assert Codebook(words).decide(logits[:1]).tolist() == [1]


def test_a_logit_of_zero_is_a_label_that_is_off():
    assert MultiLabel(2).decide(torch.zeros(1, 2)).tolist() == [[0, 0]]


def test_tanh_can_change_the_decoded_word():
    # One huge logit dominates the correlation of the logits but not that of the bounded outputs.
    words = torch.tensor([[1.0, 1, 1], [-1, -1, -1]])
    logits = torch.tensor([[-9.0, 2.0, 2.0]])
    assert Codebook(words).decide(logits).tolist() == [0]
    assert Codebook(words, activation="none").decide(logits).tolist() == [1]


@given(st.integers(0, 10_000), st.sampled_from(sorted(set(ENCODINGS) - {"codebook_tanh"})))
def test_inside_the_region_means_reached(seed, name):
    encoding = ENCODINGS[name]
    logits = random_logits(encoding, seed)
    target = encoding.decide(random_logits(encoding, seed + 1))
    inside = encoding.region(target).violations(logits).amax(dim=1) < 0
    assert torch.equal(inside, encoding.reached(logits, target))


def test_region_of_outputs_is_the_decision_for_tanh():
    encoding = ENCODINGS["codebook_tanh"]
    logits = random_logits(encoding, 1, 200)
    target = encoding.decide(random_logits(encoding, 2, 200))
    inside = encoding.region(target).violations(encoding.outputs(logits)).amax(dim=1) < 0
    assert torch.equal(inside, encoding.reached(logits, target))
    assert inside.any()


def test_region_is_an_operator_of_its_rows(encoding):
    logits = random_logits(encoding, 7)
    target = encoding.decide(random_logits(encoding, 8))
    for region in (encoding.region(target), encoding.bit_region(target)):
        rows = region.dense(logits)
        weights = torch.rand(len(logits), region.count, dtype=torch.float64)
        assert torch.allclose(region.violations(logits), torch.einsum("bkn,bn->bk", rows, logits))
        assert torch.allclose(region.pull(weights), torch.einsum("bkn,bk->bn", rows, weights))
        some = torch.tensor([3, 0, 17])
        assert torch.allclose(region.select(some).violations(logits[some]), region.violations(logits)[some])


def test_multi_label_region_equals_the_general_codebook_form():
    """With all 2^n words as a codebook the region is the same (JMA paper, Section V-B)."""
    words = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    general, simple = Codebook(words, activation="none"), MultiLabel(4)
    logits = random_logits(simple, 3, 200)
    index = torch.randint(16, (200,))
    target = (words[index] > 0).long()
    assert torch.equal(general.reached(logits, index), simple.reached(logits, target))


def test_descriptions_make_the_same_encoding_again(encoding):
    again = encoding_from_dict(encoding.to_dict())
    logits = random_logits(encoding, 4)
    assert type(again) is type(encoding)
    assert torch.equal(again.decide(logits), encoding.decide(logits))
    assert torch.equal(again.probabilities(logits), encoding.probabilities(logits))


def test_probabilities_are_scores(encoding):
    scores = encoding.probabilities(random_logits(encoding, 6))
    assert scores.min() >= 0
    assert scores.max() <= 1
    if not encoding.multi_label:
        assert torch.allclose(scores.sum(dim=1), torch.ones(len(scores), dtype=scores.dtype))


def test_output_slopes_are_the_derivative(encoding):
    logits = random_logits(encoding, 11, 5).requires_grad_(True)
    (slope,) = torch.autograd.grad(encoding.outputs(logits).sum(), logits)
    assert torch.allclose(slope, encoding.output_slopes(logits.detach()))


def test_losses_are_per_image_and_fall_towards_the_target(encoding):
    target = encoding.decide(random_logits(encoding, 12))
    signs = encoding.signs(target).double()
    near, far = encoding.loss(3 * signs, target), encoding.loss(-3 * signs, target)
    assert near.shape == (40,)
    assert bool((near < far).all())


def test_hadamard_words_are_orthogonal():
    words = hadamard(16, 10)
    assert torch.equal(words @ words.T, 16 * torch.eye(10))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneHot(1), "at least 2 classes"),
        (lambda: MultiLabel(0), "at least 1 label"),
        (lambda: Codebook(torch.ones(2, 3)), "must differ"),
        (lambda: Codebook(torch.tensor([[1.0, 0.5], [1, 1]])), r"\+1 and -1"),
        (lambda: Codebook(hadamard(4, 3), activation="relu"), "'tanh' or 'none'"),
        (lambda: hadamard(12, 3), "power of two"),
        (lambda: hadamard(4, 5), "2 to 4 codewords"),
        (lambda: encoding_from_dict({"kind": "ternary"}), "one_hot, codebook or multi_label"),
    ],
)
def test_impossible_encodings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
