import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wolfe.label_graph import LabelGraph

#       0
#      / \
#     1   2     5 - 6
#    / \
#   3   4
TREE = LabelGraph((None, 0, 0, 1, 1, None, 5))


@st.composite
def forests(draw):
    """A forest whose labels stand in any order, and 0/1 vectors for it: present and target."""
    size = draw(st.integers(1, 9))
    parents = [None if label == 0 else draw(st.none() | st.integers(0, label - 1)) for label in range(size)]
    order = draw(st.permutations(range(size)))
    shuffled = [None] * size
    for label, parent in enumerate(parents):
        shuffled[order[label]] = None if parent is None else order[parent]
    vectors = st.lists(st.lists(st.integers(0, 1), min_size=size, max_size=size), min_size=3, max_size=3)
    return LabelGraph(tuple(shuffled)), torch.tensor(draw(vectors)), torch.tensor(draw(vectors))


def made_consistent(graph, vectors):
    """Switches off whatever lacks its parent, until nothing does."""
    vectors = vectors.clone()
    for _ in graph.parents:
        for label, parent in enumerate(graph.parents):
            if parent is not None:
                vectors[:, label] &= vectors[:, parent]
    return vectors


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([0, 0, 0, 0, 0, 0, 0], True),
        ([1, 0, 0, 0, 0, 0, 0], True),
        ([1, 1, 0, 1, 0, 1, 1], True),
        ([0, 1, 0, 0, 0, 0, 0], False),
        ([1, 0, 0, 1, 0, 0, 0], False),
        ([1, 1, 1, 1, 1, 0, 1], False),
    ],
)
def test_a_label_needs_its_parent(vector, expected):
    assert TREE.consistent(torch.tensor([vector])).tolist() == [expected]


@pytest.mark.parametrize(
    ("present", "target", "expected"),
    [
        # A leaf turned on turns on its ancestors.
        ([0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0]),
        # A root turned off takes its tree along, and no other.
        ([1, 1, 1, 1, 0, 1, 1], [0, 1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 1, 1]),
        # A child turned off leaves its ancestors alone.
        ([1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 0, 0], [1, 1, 1, 0, 1, 0, 0]),
        # Label 1 off but its new child 4 on: on wins, and child 3, which the target keeps, stays.
        ([1, 1, 0, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0], [1, 1, 0, 1, 1, 0, 0]),
        # Two changes in different trees do not meet.
        ([0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0, 0]),
    ],
)
def test_closures_by_hand(present, target, expected):
    assert TREE.closure(torch.tensor([present]), torch.tensor([target])).tolist() == [expected]


@given(forests())
def test_consistency_is_what_it_says(drawn):
    graph, vectors, _ = drawn
    expected = [
        all(parent is None or not row[label] or row[parent] for label, parent in enumerate(graph.parents))
        for row in vectors.tolist()
    ]
    assert graph.consistent(vectors).tolist() == expected
    assert graph.consistent(made_consistent(graph, vectors)).all()


@given(forests())
def test_the_closure_is_consistent_where_the_present_is(drawn):
    graph, present, target = drawn
    closed = graph.closure(made_consistent(graph, present), target)
    assert graph.consistent(closed).all()
    assert closed.dtype == target.dtype


@given(forests())
def test_a_consistent_target_is_its_own_closure(drawn):
    graph, present, target = drawn
    target = made_consistent(graph, target)
    assert torch.equal(graph.closure(present, target), target)


@given(forests())
def test_what_is_turned_on_stays_on_and_closing_twice_changes_nothing(drawn):
    graph, present, target = drawn
    present = made_consistent(graph, present)
    closed = graph.closure(present, target)
    assert (closed[(target == 1) & (present == 0)] == 1).all()
    assert torch.equal(graph.closure(present, closed), closed)


@given(forests())
def test_no_change_closes_to_no_change(drawn):
    graph, present, _ = drawn
    assert torch.equal(graph.closure(present, present), present)


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ((None, 2), "the parent of label 1 must be one of the 2 labels"),
        ((-1, None), "the parent of label 0 must be one of the 2 labels"),
        ((None, True), "the parent of label 1 must be the index of a label"),
        ((0,), "label 0 is its own ancestor"),
        ((None, 3, 1, 2), "label 1 is its own ancestor"),
    ],
)
def test_wrong_parents_are_named(parents, message):
    with pytest.raises(ValueError, match=message):
        LabelGraph(parents)


def test_vectors_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"shape \(B, 7\), got \(1, 6\)"):
        TREE.consistent(torch.zeros(1, 6))


def test_a_list_of_parents_will_do_and_equal_graphs_are_equal():
    assert LabelGraph([None, 0]) == LabelGraph((None, 0))
    assert hash(LabelGraph([None, 0])) == hash(LabelGraph((None, 0)))
