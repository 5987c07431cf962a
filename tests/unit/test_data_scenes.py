"""Scenes in more colours and with a hierarchy: the pictures stay, the labels follow from what is drawn."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from wolfe.data import build_dataset, load_card, open_split
from wolfe.data.digits import digit_splits, raw_digits
from wolfe.data.photographs import band
from wolfe.data.scene_labels import COLOURS, SceneLabels
from wolfe.data.scenes import build_scenes
from wolfe.data.writer import card_checksum
from wolfe.label_graph import LabelGraph

SEED = 7
SPLITS = ("train", "validation", "test")
FEW = {"train": 40, "validation": 20, "test": 20}
# Pictures, labels and card of the first scenes that were published with this project.
FIRST_SCENES = "668b3a1362784ae45ae1bc39b9617fefad7e24cde289a45d3879e0eefad873df"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tree"
    build_dataset("tree", {"source": "scenes", "colours": 3, "hierarchy": True, **FEW}, folder, SEED)
    return folder


def test_scenes_without_options_never_change():
    source = build_scenes(SEED, train=6, validation=3, test=3)
    digest = hashlib.sha256()
    for name in SPLITS:
        part = source.splits[name]
        for image in part.images:
            digest.update(image.tobytes())
        digest.update(repr((part.labels, part.columns)).encode())
    digest.update(repr((source.class_names, source.provenance)).encode())
    assert digest.hexdigest() == FIRST_SCENES


def test_single_labels_are_the_class_of_the_one_digit_that_is_drawn():
    plain, single = (build_scenes(SEED, single_label=told, **FEW) for told in (False, True))
    assert (single.task, plain.task) == ("single", "multi")
    assert single.class_names == plain.class_names
    _, classes = raw_digits()
    for part in single.splits.values():
        assert all(0 <= label < len(single.class_names) for label in part.labels)
        assert [[label % 10] for label in part.labels] == [classes[used].tolist() for used in part.columns["digits"]]
    with pytest.raises(ValueError, match="choose one"):
        build_scenes(SEED, single_label=True, hierarchy=True, **FEW)


def test_more_colours_are_more_labels_without_a_hierarchy():
    labels = SceneLabels(colours=4, hierarchy=False)
    assert len(labels.names) == len(set(labels.names)) == 40
    assert labels.names[::10] == [f"{colour} 0" for colour in COLOURS]
    assert labels.parents is None and labels.of([31, 7]) == [7, 31]


def test_a_hierarchy_leads_from_digit_to_parity_to_colour():
    labels = SceneLabels(colours=2, hierarchy=True)
    start = ["magenta", "magenta even", "magenta odd", "magenta 0", "magenta 1"]
    assert labels.names[:5] == start and labels.names[13:15] == ["green", "green even"] and len(labels.names) == 26
    assert labels.parents is not None
    above = {
        name: None if parent is None else labels.names[parent]
        for name, parent in zip(labels.names, labels.parents, strict=True)
    }
    assert above["green 7"] == "green odd" and above["green odd"] == "green" and above["green"] is None
    for colour in ("magenta", "green"):
        for digit in range(10):
            assert above[f"{colour} {digit}"] == f"{colour} {'odd' if digit % 2 else 'even'}"
    assert [labels.names[i] for i in labels.of([4, 17, 11])] == [
        "magenta", "magenta even", "magenta 4", "green", "green odd", "green 1", "green 7",
    ]  # fmt: skip


def test_every_label_vector_obeys_the_hierarchy_and_nothing_is_on_without_a_digit(tree):
    for name in SPLITS:
        part = open_split(tree, name)
        parents = part.label_graph.parents
        inner = set(parents) - {None}
        assert len(part.class_names) == len(parents) == 39
        for row in part.labels:
            on = set(row.nonzero().flatten().tolist())
            assert {parents[i] for i in on} - {None} <= on
            assert all(any(parents[child] == i for child in on) for i in on & inner)
            assert 1 <= len(on - inner) <= 4


def test_a_hierarchy_changes_labels_alone():
    plain, labelled = (build_scenes(SEED, colours=3, hierarchy=told, **FEW) for told in (False, True))
    scheme = SceneLabels(colours=3, hierarchy=True)
    for name in SPLITS:
        one, other = plain.splits[name], labelled.splits[name]
        assert np.array_equal(one.images, other.images) and one.columns == other.columns
        assert [scheme.of(things) for things in one.labels] == list(other.labels)


def test_colours_stand_where_they_are_labelled_and_nowhere_else():
    source = build_scenes(SEED, colours=4, **FEW)
    part = source.splits["train"]
    seen = set()
    for image, on in zip(part.images, part.labels, strict=True):
        found = Counter()
        for quarter in (image[top : top + 32, left : left + 32] for top in (0, 32) for left in (0, 32)):
            for number, colour in enumerate(COLOURS.values()):
                found[number] += int((np.abs(quarter.astype(int) - colour).max(axis=2) <= 2).sum() > 3)
        assert +found == Counter(label // 10 for label in on)
        seen |= set(+found)
    assert seen == {0, 1, 2, 3}


def test_splits_share_no_digit_and_no_region_in_more_colours(tree):
    members = digit_splits(SEED)
    _, classes = raw_digits()
    for name in SPLITS:
        part = open_split(tree, name)
        assert set(chain.from_iterable(part.columns["digits"])) <= set(members[name].tolist())
        for picture, (left, _, right, _) in zip(part.columns["photograph"], part.columns["crop"], strict=True):
            assert band(picture, name)[0] <= left < right <= band(picture, name)[2]
        for row, used in zip(part.labels, part.columns["digits"], strict=True):
            named = [part.class_names[i].split()[-1] for i in row.nonzero().flatten()]
            assert [int(word) for word in named if word.isdigit()] == classes[used].tolist()


def test_the_card_keeps_the_parents_only_where_there_are_some(tree, tmp_path):
    card = load_card(tree)
    assert tuple(card["label_parents"]) == SceneLabels(colours=3, hierarchy=True).parents
    assert "are labels too" in card["provenance"] and "magenta, green or yellow" in card["provenance"]
    assert card_checksum({**card, "label_parents": [None] * 39}) != card["card_sha256"]
    assert open_split(tree, "test").label_graph == LabelGraph(parents=tuple(card["label_parents"]))
    build_dataset("plain", {"source": "scenes", "train": 1, "validation": 1, "test": 1}, tmp_path, SEED)
    assert "label_parents" not in load_card(tmp_path)
    assert open_split(tmp_path, "test").label_graph is None
