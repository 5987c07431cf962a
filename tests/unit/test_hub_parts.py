"""What an entry says of a published set's splits and classes: parts, joined splits, shares, classes that are kept."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.published_files import SPLITS, TINY, picture, write_parquet
from wolfe.data import build_dataset, hub_parts, load_card, open_split
from wolfe.data.hub_classes import check_choice, first_of_each, most_populated
from wolfe.data.hub_open import open_split_table
from wolfe.data.hub_parts import check_disjoint, images_of, parts_of
from wolfe.data.hub_sets import HUB_SETS, HubSet
from wolfe.data.hub_table import joined
from wolfe.study.errors import StudyError
from wolfe.study.sources import check_source, classes_of, image_shape, images_to_attack, is_multi_label

# The training images of GTSRB's classes, as its authors give them.
GTSRB_KEPT = [*range(1, 19), 20, 22, 23, 25, 26, 28, 30, 31, 33, 34, 35, 36, 38, 40]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a set of two splits, whose classes have 7, 3 and 2 training images."""
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    write_parquet(tmp_path / "hub" / "train-00000-of-00001.parquet", "train", 12)
    write_parquet(tmp_path / "hub" / "test-00000-of-00001.parquet", "test", 5)
    return tmp_path / "hub"


def built(root, folder, splits=SPLITS, classes=None, per_class=None, partial=False):
    entry = {"source": "hub", "collection": "tiny", "size": 32, "splits": dict(splits), "data_root": str(root)}
    build_dataset("tiny", {**entry, "classes": classes, "per_class": per_class, "partial": partial}, folder, 0)
    return {name: open_split(folder, name) for name in SPLITS}


@given(sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)), cut=st.integers(1, 60), images=st.integers(1, 100))
def test_counts_of_parts_are_those_of_slices(sizes, cut, images):
    start, length = sizes
    for text, expected in (
        (f"train[{start}:{start + length}]", range(images)[start : start + length]),
        (f"train[:{cut}]", range(images)[:cut]),
        (f"train[{cut}:]", range(images)[cut:]),
        ("train", range(images)),
    ):
        part = hub_parts._part("mnist", HUB_SETS["mnist"], "train", text)
        assert part.count(images) == len(expected)
        assert expected == range(*part.ends(images)) or not expected


@given(cuts=st.lists(st.integers(1, 99), min_size=2, max_size=2, unique=True), images=st.integers(1, 10_000))
def test_shares_of_any_number_of_images_meet_without_gap_or_overlap(cuts, images):
    low, high = sorted(cuts)
    texts = (f"train[:{low}%]", f"train[{low}%:{high}%]", f"train[{high}%:]")
    ends = [hub_parts._part("mnist", HUB_SETS["mnist"], "train", text).ends(images) for text in texts]
    assert [place for end in ends for place in end] == [0, ends[0][1], ends[0][1], ends[1][1], ends[1][1], images]
    assert abs(ends[0][1] - images * low / 100) < 1


def test_joined_splits_are_one_series(root, tmp_path):
    splits = {"train": "train+test[:60%]", "validation": "train+test[60%:80%]", "test": "train+test[80%:]"}
    parts = built(root, tmp_path / "set", splits=splits)
    assert [len(parts[name]) for name in parts] == [10, 3, 4]
    seen = Counter()
    for part in parts.values():
        for index, place in enumerate(zip(part.columns["hub_split"], part.columns["hub_row"], strict=True)):
            split, row = place
            seen[place] += 1
            assert part.labels[index] == row % 3
            expected = np.moveaxis(picture(row, split)[:, 4:36], 2, 0) / np.float32(255)
            assert np.array_equal(part.images([index])[0].numpy(), expected)
    assert seen == Counter([("train", row) for row in range(12)] + [("test", row) for row in range(5)])
    assert len(set(parts["train"].columns["hub_split"])) == 2


def test_a_joined_table_reads_what_its_splits_read(root):
    tables = [open_split_table(TINY, split, str(root), None, partial=False)[0] for split in ("train", "test")]
    both = joined(tables)
    assert both.starts.tolist() == [0, 6, 12, 15, 17] and both.sizes == {"train": 12, "test": 5}
    assert both.places(np.array([0, 11, 12, 16])) == (["train", "train", "test", "test"], [0, 11, 0, 4])
    assert both.labels.tolist() == [*tables[0].labels, *tables[1].labels]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": "train[:6]", "validation": "train+test[6:8]", "test": "test"},
            "train .* and validation .* would share",
        ),
        ({"train": "train[:60%]", "validation": "train[6:]", "test": "test"}, "would share"),
        ({"train": "train+train[:6]", "validation": "train[6:]", "test": "test"}, "names a split twice"),
        ({"train": "train+", "validation": "train[6:]", "test": "test"}, "must look like"),
        ({"train": "train[:6%%]", "validation": "train[6:]", "test": "test"}, "must look like"),
        ({"train": "train[:6%]", "validation": "train[6%:7%]", "test": "test"}, "would be empty: train.:6%. of 12"),
    ],
)
def test_series_that_cannot_be_are_refused(monkeypatch, splits, message):
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    with pytest.raises(ValueError, match=message):
        parts_of("tiny", splits)


def test_parts_that_share_images_only_here_are_refused(root, tmp_path, monkeypatch):
    larger = HubSet(**{**vars(TINY), "counts": {"train": 100, "test": 5}})
    monkeypatch.setitem(HUB_SETS, "tiny", larger)
    splits = {"train": "train[:10]", "validation": "train[20%:]", "test": "test"}
    check_disjoint(parts_of("tiny", splits), {"train": 50, "test": 5})
    with pytest.raises(ValueError, match="would share images"):
        built(root, tmp_path / "set", splits=splits, partial=True)


def test_the_most_populated_classes_are_kept_under_new_numbers(root, tmp_path):
    write_parquet(root / "train-00000-of-00001.parquet", "train", 11)  # classes 0 and 1 have four, class 2 has three
    parts = built(
        root,
        tmp_path / "set",
        classes=2,
        partial=True,
        splits={**SPLITS, "train": "train[:5]", "validation": "train[5:]"},
    )
    assert load_card(tmp_path / "set")["class_names"] == ["ant", "bee"]
    assert [len(parts[name]) for name in SPLITS] == [5, 3, 4]
    for part in parts.values():
        assert part.labels.tolist() == [row % 3 for row in part.columns["hub_row"]]


def test_numbers_of_kept_classes_follow_their_old_order(root, tmp_path, monkeypatch):
    monkeypatch.setitem(HUB_SETS, "tiny", HubSet(**{**vars(TINY), "class_counts": (1, 5, 9)}))
    parts = built(root, tmp_path / "set", classes=2, splits={**SPLITS, "train": "train[:5]", "validation": "train[5:]"})
    assert load_card(tmp_path / "set")["class_names"] == ["bee", "cat"]
    for part in parts.values():
        assert part.labels.tolist() == [row % 3 - 1 for row in part.columns["hub_row"]]


def test_the_32_classes_of_gtsrb_are_those_of_its_published_counts():
    assert sum(HUB_SETS["gtsrb"].class_counts) == 39_209 and len(HUB_SETS["gtsrb"].class_counts) == 43
    assert most_populated(HUB_SETS["gtsrb"], 32, np.zeros(3, np.int64)).tolist() == GTSRB_KEPT


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=40), classes=st.integers(2, 3))
def test_no_class_that_goes_has_more_images_than_one_that_stays(labels, classes):
    kept = most_populated(TINY, classes, np.array(labels)).tolist()
    counts = [labels.count(label) for label in range(3)]
    assert len(kept) == classes and kept == sorted(set(kept))
    gone = set(range(3)) - set(kept)
    assert all((counts[out], -out) < (counts[stay], -stay) for out in gone for stay in kept)


@given(labels=st.lists(st.integers(0, 4), max_size=60), most=st.integers(1, 8))
def test_the_first_images_of_each_class_are_found(labels, most):
    expected = [labels[:index].count(label) < most for index, label in enumerate(labels)]
    assert first_of_each(np.array(labels, np.int64), most).tolist() == expected


def test_training_images_of_a_class_are_limited(root, tmp_path):
    free, limited = (built(root, tmp_path / name, per_class=most) for name, most in (("free", None), ("limited", 2)))
    assert (
        max(Counter(limited["train"].labels.tolist()).values())
        <= 2
        < max(Counter(free["train"].labels.tolist()).values())
    )
    assert set(limited["train"].columns["hub_row"]) <= set(free["train"].columns["hub_row"])
    for name in ("validation", "test"):
        assert limited[name].columns == free[name].columns
    assert "at most 2 training images" in load_card(tmp_path / "limited")["provenance"]


def test_labels_that_come_together_are_not_chosen_among():
    with pytest.raises(ValueError, match="need one class an image; MS-COCO 2017 has several labels"):
        check_choice(HUB_SETS["coco"], 20, None)
    with pytest.raises(ValueError, match="need one class an image"):
        check_choice(HUB_SETS["voc2012"], None, 20)
    check_choice(HUB_SETS["coco"], None, None)


PAPER = [
    ("voc2012", {"train": "train+validation[:6918]", "validation": "train+validation[6918:9224]",
                 "test": "train+validation[9224:11530]"}, (6918, 2306, 2306), 20, True),
    ("nus_wide", {"train": "train[:129431]", "validation": "train[129431:]", "test": "test[:107759]"},
     (129_431, 32_358, 107_759), 81, True),
    ("coco", {"train": "train[5000:]", "validation": "train[:5000]", "test": "validation"},
     (112_266, 5000, 4952), 80, True),
    ("imagenet21k", {"train": "train", "validation": "validation[:50000]", "test": "validation[50000:]"},
     (11_060_223, 50_000, 472_500), 2000, False),
    ("imagenet", {"train": "train", "validation": "validation[:10000]", "test": "validation[10000:]"},
     (1_281_167, 10_000, 40_000), 1000, False),
]  # fmt: skip


@pytest.mark.parametrize(("collection", "splits", "counts", "classes", "multi"), PAPER, ids=[row[0] for row in PAPER])
def test_sets_are_known_without_their_files(collection, splits, counts, classes, multi):
    entry = {"source": "hub", "collection": collection, "size": 224, "splits": splits, "data_root": "images"}
    if collection == "imagenet21k":
        entry["classes"] = 2000
    check_source("datasets.a", entry)
    assert tuple(images_of(entry, split) for split in SPLITS) == counts
    assert images_to_attack(entry) == counts[2]
    assert (classes_of(entry), is_multi_label(entry), image_shape(entry)) == (classes, multi, (3, 224))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 44}, r"datasets\.a: hub: classes must be from 2 to 43, got 44"),
        ({"pad": 29}, r"datasets\.a: hub: size must be at least 8 without its padding .* got size 64, pad 29"),
        ({"stretch": True, "shorter_side": 70}, r"datasets\.a: hub: a picture that is stretched has no shorter_side"),
        ({"splits": {**SPLITS, "test": "validation"}}, r"datasets\.a\.splits: hub: gtsrb has no split 'validation'"),
    ],
)
def test_a_study_with_a_choice_that_cannot_be_is_refused(changes, message):
    entry = {"source": "hub", "collection": "gtsrb", "size": 64, "splits": SPLITS}
    check_source("datasets.a", {**entry, "classes": 32, "pad": 28})
    with pytest.raises(StudyError, match=message):
        check_source("datasets.a", {**entry, **changes})


@pytest.mark.parametrize("collection", ["voc2012", "voc2007", "nus_wide"])
def test_what_a_set_has_no_use_for_is_refused_before_anything_is_read(collection):
    test = "test" if "test" in HUB_SETS[collection].counts else "validation"
    splits = {"train": "train[:5]", "validation": "train[5:]", "test": test}
    entry = {"source": "hub", "collection": collection, "size": 64, "splits": splits, "data_root": "images"}
    check_source("datasets.a", {**entry, "revision": None, "files": None})
    with pytest.raises(
        StudyError, match=r"datasets\.a: hub: files must be at least 1, of a set of parquet files, got 3"
    ):
        check_source("datasets.a", {**entry, "files": 3})
    with pytest.raises(StudyError, match=r"is not fetched from the hub, so it has no revision: leave it out"):
        check_source("datasets.a", {**entry, "revision": "abc"})
    check_source("datasets.a", {**entry, "collection": "imagenet21k", "splits": {**splits, "test": "validation"},
                                "files": 3, "revision": "abc"})  # fmt: skip
