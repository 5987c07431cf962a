"""The lemmas of Ozbulak et al. 2018 on softmax in limited precision, as the processor's softmax has them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

DTYPES = (torch.float16, torch.float32, torch.float64)
GAPS = {torch.float16: 8.320, torch.float32: 16.6355, torch.float64: 36.7368}
"""The smallest lead of one logit over another whose softmax is exactly 1."""


def softmax(*values: float, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype).softmax(dim=0)


def top(gap, classes, dtype):
    """The softmax value of a logit that leads `classes - 1` zeros by a gap."""
    logits = torch.zeros(classes, dtype=dtype)
    logits[0] = gap
    return logits.softmax(dim=0)[0].item()


def smallest_gap(classes, dtype):
    """By bisection over gaps that are numbers of the type."""
    low, high = 0.0, 60.0
    while True:
        middle = torch.tensor((low + high) / 2, dtype=dtype).item()
        if middle in (low, high):
            return high
        low, high = (low, middle) if top(middle, classes, dtype) == 1 else (middle, high)


@pytest.mark.parametrize("dtype", DTYPES)
def test_smallest_lead_over_one_class_with_a_softmax_of_exactly_one(dtype):
    """1 / (1 + e^-gap): in single and double precision the sum rounds to 1 from e^-gap = eps / 2 on.

    Half precision is worked out in single; there the quotient rounds to 1, from e^-gap = eps / 4 on.
    """
    gap, eps = smallest_gap(2, dtype), torch.finfo(dtype).eps
    assert gap == pytest.approx(GAPS[dtype], rel=1e-3)
    assert gap == pytest.approx(math.log((4 if dtype == torch.float16 else 2) / eps), rel=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_smallest_lead_over_many_classes(dtype):
    """Over m equal ones between that over a single one, where each e^-gap is lost alone, and ln(m) more than that.

    Which depends on the order in which a processor sums up; with a larger lead it is never below 1.
    """
    gap, eps = smallest_gap(1000, dtype), torch.finfo(dtype).eps
    assert math.log(2 / eps) - 0.01 <= gap <= math.log(4 * 999 / eps) + 0.01
    assert gap > smallest_gap(2, dtype) + 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [2, 1000])
def test_lemma_1_beyond_that_lead_nothing_is_felt(dtype, classes):
    gap = smallest_gap(classes, dtype)
    largest = torch.finfo(dtype).max
    for more in (gap, gap + 1, 2 * gap, 100.0, 4000.0, largest):
        assert top(more, classes, dtype) == 1
    below = torch.nextafter(torch.tensor(gap, dtype=dtype), torch.zeros((), dtype=dtype)).item()
    assert top(below, classes, dtype) < 1


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([torch.float32, torch.float64]),
    st.lists(st.floats(-20, 20), min_size=1, max_size=12),
    st.floats(0, 1000),
)
def test_lemma_1_for_any_logits(dtype, others, more):
    """Once the highest output is exactly 1, a higher highest logit changes no bit of it."""
    highest = max(others) + math.log(len(others)) - math.log(torch.finfo(dtype).eps / 4) + 0.01
    assert softmax(highest, *others, dtype=dtype)[0] == 1
    assert softmax(highest + more, *others, dtype=dtype)[0] == 1


@settings(deadline=None, max_examples=300)
@given(
    st.floats(1e-3, 8),
    st.lists(st.floats(-12, 0), max_size=6),
    st.floats(0.01, 100),
    st.floats(0.01, 0.9),
)
def test_lemma_2_the_top_falls_while_its_logit_rises(lead, rest, rise, share):
    """A second logit that rises by more, and stays behind, lowers the highest output.

    Logits are (lead, 0, rest - lead), those at 0 and below the second: the paper's t. `share` says how much of the
    lead the second one makes up. Among exact numbers that is not always so: the outputs of all others fall too, so
    where they outweigh the second (large rest, small rise) the top gains. Here the others' weight is below what the
    second one wins, which is the paper's case of two classes that leave all others behind.
    """
    before = torch.tensor([lead, 0.0, *[value - lead for value in rest]], dtype=torch.float64)
    after = before.clone()
    after[0] += rise
    after[1] += rise + share * lead
    top_before, top_after = before.softmax(dim=0)[0], after.softmax(dim=0)[0]
    others = before[2:].exp().sum().item()
    # The odds against the top are e^-lead (1 + others); they become e^-((1 - share) lead) + others e^-(lead + rise).
    odds_before = math.exp(-lead) * (1 + others)
    odds_after = math.exp(-(1 - share) * lead) + others * math.exp(-(lead + rise))
    assert top_after > after.softmax(dim=0)[1]
    if odds_after > odds_before * (1 + 1e-9):
        assert top_after < top_before
    elif odds_after < odds_before * (1 - 1e-9):
        assert top_after > top_before


def test_lemma_2_fails_where_other_classes_weigh_more():
    """Even in exact numbers: the second logit rises by more than the first, but what the others lose is worth more."""
    before, after = softmax(1.0, 0.0, 0.9, 0.9), softmax(6.0, 5.01, 0.9, 0.9)
    assert after[0] > after[1]
    assert after[0] > before[0] + 0.4


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(DTYPES), st.floats(0.1, 12), st.floats(0.1, 100), st.floats(0.3, 0.9))
def test_lemma_2_for_two_classes_in_limited_precision(dtype, lead, rise, share):
    """With two classes alone the top never gains; it falls unless it rounds to the same number, as from 1 to 1."""
    first = torch.tensor([lead, 0.0], dtype=dtype)
    second = first + torch.tensor([rise, rise + share * lead], dtype=dtype)
    shrunk = (second[0] - second[1]).item() < (first[0] - first[1]).item()
    before, after = first.softmax(dim=0)[0].item(), second.softmax(dim=0)[0].item()
    if shrunk:
        assert after <= before
    if dtype == torch.float64:
        assert after < before


def test_lemma_2_by_the_numbers_of_the_paper():
    """Figure 2: leads of 1, 1 and 1 are printed, but confidences of 0.75, 0.71 and 0.57 need 1.10, 0.90 and 0.28."""
    for lead, confidence in ((1.10, 0.75), (0.90, 0.71), (0.28, 0.57)):
        assert softmax(39.0, 39.0 - lead)[0].item() == pytest.approx(confidence, abs=0.005)
    first, second = softmax(39.0, 37.9, 7.0), softmax(190.0, 189.1, 10.0)
    assert second[0] < first[0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_lemma_2_fails_where_the_top_stays_exactly_one(dtype):
    """An output of exactly 1 does not fall as long as the lead stays beyond the smallest one: the lemma's limit.

    The paper asks for a second output above 0, but in floating-point numbers one of e^-40 is above 0 beside a 1.
    """
    gap = smallest_gap(2, dtype)
    far = torch.tensor([gap + 3, 0.0], dtype=dtype)
    nearer = torch.tensor([gap + 4, 2.0], dtype=dtype)
    assert far.softmax(dim=0)[0] == nearer.softmax(dim=0)[0] == 1
    if dtype != torch.float16:
        assert far.softmax(dim=0)[1] > 0
    assert torch.tensor([gap + 4, 6.0], dtype=dtype).softmax(dim=0)[0] < 1


def test_lemma_2_fails_where_the_sum_absorbs_the_rise():
    """In half precision logits around 500 are 0.25 to 0.5 apart: a smaller rise is lost before the softmax sees it."""
    logits = torch.tensor([520.0, 519.0], dtype=torch.float16)
    risen = logits + torch.tensor([0.1, 0.2], dtype=torch.float16)
    assert torch.equal(risen, logits)
    assert torch.equal(risen.softmax(dim=0), logits.softmax(dim=0))
    exact = torch.tensor([520.1, 519.2], dtype=torch.float64).softmax(dim=0)
    assert exact[0] < logits.double().softmax(dim=0)[0]


def test_a_softmax_of_one_class_hides_what_the_odds_in_double_precision_show():
    """The same single-precision logits: softmax is 1 for both, the odds differ."""
    weak, strong = torch.tensor([20.0, 0.0, 0.0]), torch.tensor([60.0, 0.0, 0.0])
    assert weak.softmax(dim=0)[0] == strong.softmax(dim=0)[0] == 1
    odds = [(one[0].double() - one[1:].double().logsumexp(dim=0)).item() for one in (weak, strong)]
    assert odds == pytest.approx([20 - math.log(2), 60 - math.log(2)])
