"""Sequences of digits: their classes are balanced, read off the picture, and share no digit between splits."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

from wolfe.data import build_dataset, load_card, open_split
from wolfe.data.digits import digit_splits, raw_digits
from wolfe.data.sequences import SEQUENCES, build_sequences
from wolfe.files import sha256

SEED = 7
SPLITS = ("train", "validation", "test")
COUNTS = {"train": 460, "validation": 225, "test": 100}


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "sequences"
    build_dataset("sequences", {"source": "sequences", **COUNTS}, folder, SEED)
    return folder


def test_there_are_225_classes_pairs_before_triples(sequences):
    card = load_card(sequences)
    names = card["class_names"]
    assert len(names) == len(set(names)) == 225 and card["task"] == "single"
    assert names[0] == "0 0" and names[37] == "3 7" and names[99] == "9 9"
    assert names[100] == "0 0 0" and names[100 + 1 * 25 + 0 * 5 + 4] == "1 0 4" and names[224] == "4 4 4"
    assert card["image_shape"] == [1, 32, 32] and card["counts"] == COUNTS and "label_parents" not in card
    assert "scikit-learn" in card["revision"] and "100 ordered pairs" in card["provenance"]


def test_every_class_is_as_frequent_as_any_other(sequences):
    for name, count in COUNTS.items():
        found = np.bincount(open_split(sequences, name).labels.numpy(), minlength=225)
        assert found.sum() == count and found.max() - found.min() <= 1
    source = build_sequences(SEED, train=450, validation=1, test=1)
    assert set(np.bincount(source.splits["train"].labels)) == {2}


def test_the_class_names_the_digits_that_are_drawn_and_splits_share_none(sequences):
    members = digit_splits(SEED)
    _, classes = raw_digits()
    for name in SPLITS:
        part = open_split(sequences, name)
        assert set(chain.from_iterable(part.columns["digits"])) <= set(members[name].tolist())
        for label, used in zip(part.labels.tolist(), part.columns["digits"], strict=True):
            assert SEQUENCES[label] == tuple(classes[used])


@pytest.mark.parametrize("size", [16, 32, 50])
def test_digits_stand_in_reading_order_each_in_its_quarter(size):
    part = build_sequences(SEED, size=size, train=60, validation=1, test=1).splits["train"]
    half = size // 2
    for image, label in zip(part.images, part.labels, strict=True):
        assert image.shape == (size, size) and image.dtype == np.uint8
        quarters = (image[:half, :half], image[:half, half:], image[half:, :half], image[half:, half:])
        ink = [quarter.max() > 100 for quarter in quarters]
        assert ink == [True, True, len(SEQUENCES[label]) == 3, False]
        assert not quarters[3].any()


def test_the_first_pictures_do_not_depend_on_how_many_there_are(sequences):
    few = build_sequences(SEED, train=3, validation=2, test=4).splits["test"]
    part = open_split(sequences, "test")
    assert list(few.labels) == part.labels[:4].tolist()
    assert np.array_equal(np.stack(few.images), np.round(part.images(range(4))[:, 0].numpy() * 255).astype(np.uint8))


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    spec = {"source": "sequences", "train": 6, "validation": 3, "test": 3}
    code = (
        "import json, sys, pathlib; from wolfe.data import build_dataset; "
        "build_dataset('sequences', json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
    )
    build_dataset("sequences", spec, tmp_path / "here", SEED)
    command = [sys.executable, "-c", code, json.dumps(spec), str(tmp_path / "there"), str(SEED)]
    subprocess.run(command, check=True)
    for name in ("arrow", "card.json"):
        assert sha256(tmp_path / "here" / name) == sha256(tmp_path / "there" / name)
    build_dataset("sequences", spec, tmp_path / "here", SEED + 1)
    assert sha256(tmp_path / "here" / "arrow") != sha256(tmp_path / "there" / "arrow")
