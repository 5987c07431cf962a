"""Data sets: what is in them, that splits are disjoint, that they are the same every time and refuse damage."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from wolfe.data import SOURCES, Source, Split, build_dataset, load_card, open_split
from wolfe.data.digits import digit_splits, raw_digits
from wolfe.data.photographs import BANDS, PHOTOGRAPHS, band, photograph
from wolfe.files import sha256

SEED = 7
SPLITS = ("train", "validation", "test")
SCENES = {"source": "scenes", "size": 64, "train": 120, "validation": 60, "test": 60}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    build_dataset("digits", {"source": "digits", "size": 32}, folder, SEED)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    build_dataset("scenes", SCENES, folder, SEED)
    return folder


def test_digits_hold_all_digits_once_split_by_class(digits):
    sets = {name: open_split(digits, name) for name in SPLITS}
    _, classes = raw_digits()
    used = list(chain.from_iterable(sets[name].columns["digit"] for name in SPLITS))
    assert sorted(used) == list(range(1797))
    for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        found = np.bincount(sets[name].labels.numpy(), minlength=10)
        assert np.abs(found - share * np.bincount(classes)).max() <= 1.5
        assert sets[name].labels.tolist() == classes[sets[name].columns["digit"]].tolist()


def test_items_are_images_in_the_unit_range_with_their_label(digits, scenes):
    image, label = open_split(digits, "test")[3]
    assert image.shape == (1, 32, 32) and image.dtype == torch.float32 and label.shape == ()
    assert image.min() >= 0 and image.max() <= 1 and image.max() > 0.5
    many = open_split(scenes, "test")
    image, label = many[0]
    assert image.shape == (3, 64, 64) and label.shape == (20,) and label.dtype == torch.float32
    assert torch.equal(many.images([2, 0])[1], image)
    assert many.images([]).shape == (0, 3, 64, 64)
    assert many.ids[12] == "test-00012" and many.task == "multi" and many.label_graph is None
    assert many.class_names == [f"{colour} {digit}" for colour in ("magenta", "green") for digit in range(10)]


def test_scenes_show_one_to_four_labels_with_digits_of_their_class(scenes):
    _, classes = raw_digits()
    for name in SPLITS:
        part = open_split(scenes, name)
        assert set(part.labels.sum(1).tolist()) == {1, 2, 3, 4}
        for row, used in zip(part.labels, part.columns["digits"], strict=True):
            assert [int(label) % 10 for label in row.nonzero()] == classes[used].tolist()


def test_scenes_share_no_digit_and_no_photograph_region_between_splits(scenes):
    members = digit_splits(SEED)
    for name in SPLITS:
        columns = open_split(scenes, name).columns
        assert set(chain.from_iterable(columns["digits"])) <= set(members[name].tolist())
        for picture, (left, top, right, bottom) in zip(columns["photograph"], columns["crop"], strict=True):
            region = band(picture, name)
            assert region[0] <= left < right <= region[2] and region[1] <= top < bottom <= region[3]
    for picture in PHOTOGRAPHS:
        train, validation, test = (band(picture, name) for name in BANDS)
        assert train[2] <= validation[0] and validation[2] <= test[0]
        assert test[2] == photograph(picture).size[0]


def test_scenes_keep_the_photograph_and_show_the_digit(scenes):
    part = open_split(scenes, "test")
    grounds = []
    for index in range(8):
        picture, crop = part.columns["photograph"][index], part.columns["crop"][index]
        ground = np.asarray(photograph(picture).resize((64, 64), 3, box=crop, reducing_gap=2.0))
        difference = np.abs(part.images([index])[0].permute(1, 2, 0).numpy() * 255 - ground).max(axis=2)
        grounds.append((difference < 1).mean())
        assert (difference > 60).mean() > 0.01
    assert np.mean(grounds) > 0.5


def test_the_first_pictures_do_not_depend_on_how_many_there_are(scenes, tmp_path):
    build_dataset("few", {**SCENES, "train": 5, "validation": 2, "test": 3}, tmp_path, SEED)
    assert torch.equal(open_split(tmp_path, "test").images(range(3)), open_split(scenes, "test").images(range(3)))


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path):
    spec = {"source": "scenes", "train": 6, "validation": 3, "test": 3}
    build_dataset("scenes", spec, tmp_path / "here", SEED)
    code = (
        "import json, sys, pathlib; from wolfe.data import build_dataset; "
        "build_dataset('scenes', json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, json.dumps(spec), str(tmp_path / "there"), str(SEED)]
    subprocess.run(command, check=True)
    for name in ("arrow", "card.json"):
        assert sha256(tmp_path / "here" / name) == sha256(tmp_path / "there" / name)
    build_dataset("scenes", spec, tmp_path / "here", SEED + 1)
    assert sha256(tmp_path / "here" / "arrow") != sha256(tmp_path / "there" / "arrow")


def test_the_card_says_what_it_is(scenes):
    card = load_card(scenes)
    assert card["counts"] == {"train": 120, "validation": 60, "test": 60}
    assert card["image_shape"] == [3, 64, 64] and card["task"] == "multi" and len(card["class_names"]) == 20
    assert "scikit-image" in card["revision"] and "photographs" in card["provenance"]
    name = "arrow/test/data-00000-of-00001.arrow"
    assert card["checksums"][name] == hashlib.sha256((scenes / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["arrow/test/data-00000-of-00001.arrow", "arrow/test/state.json", "card.json"])
def test_a_flipped_byte_is_refused_by_name(tmp_path, name):
    build_dataset("tiny", {"source": "scenes", "train": 1, "validation": 1, "test": 2}, tmp_path, SEED)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=Path(name).name):
        open_split(tmp_path, "test")


def test_missing_things_are_named(digits, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"card\.json"):
        open_split(tmp_path, "test")
    with pytest.raises(ValueError, match=r"'tests'.*train, validation, test"):
        open_split(digits, "tests")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "digit"}, "unknown source 'digit'; there are digits, hub, scenes, sequences"),
        ({"source": "digits", "sise": 32}, "no option 'sise'; it has size"),
        ({"source": "digits", "size": 4}, "at least 8"),
        ({"source": "scenes", "size": 100}, "from 48 to 72"),
        ({"source": "scenes", "colours": 1}, "colours must be from 2 to 4, got 1"),
        ({"source": "scenes", "colours": 5}, "colours must be from 2 to 4, got 5"),
        ({"source": "scenes", "colours": "all"}, "colours must be a whole number, got 'all'"),
        ({"source": "scenes", "colours": True}, "colours must be a whole number, got True"),
        ({"source": "scenes", "hierarchy": 1}, "hierarchy must be true or false, got 1"),
        ({"source": "sequences", "size": 14}, "even and at least 16 pixels, got 14"),
        ({"source": "sequences", "size": 33}, "even and at least 16 pixels, got 33"),
        ({"source": "sequences", "size": 32.0}, "size must be a whole number, got 32.0"),
        ({"source": "sequences", "train": 0}, "at least 1"),
        ({"source": "sequences", "colours": 3}, "no option 'colours'; it has size, train, validation, test"),
        ({"source": "scenes", "test": 0}, "at least 1"),
    ],
)
def test_a_wrong_entry_says_what_is_allowed(spec, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        build_dataset("mine", spec, tmp_path / "out", SEED)
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(raised.value)


def test_a_new_source_is_a_function_and_a_name(monkeypatch, tmp_path):
    def build_squares(seed, *, size=4):
        part = Split(images=[np.full((size, size), 9 * i, np.uint8) for i in range(3)], labels=[0, 1, 0])
        return Source("single", ["even", "odd"], dict.fromkeys(SPLITS, part), "1", "Squares.")

    monkeypatch.setitem(SOURCES, "squares", build_squares)
    build_dataset("squares", {"source": "squares", "size": 5}, tmp_path, SEED)
    assert open_split(tmp_path, "train").images([2]).unique().item() == pytest.approx(18 / 255)
