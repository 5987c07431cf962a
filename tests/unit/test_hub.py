"""Published sets: what goes where, what an entry may say, and sets larger than the memory."""

from __future__ import annotations

import inspect
import json

import pytest
import torch

from tests.unit.published_files import NAMES, SPLITS, TINY, picture, spec, write_tiny
from wolfe.data import build_dataset, hub_pictures, load_card, open_split, source, writer
from wolfe.data.hub import build_hub
from wolfe.data.hub_sets import HUB_SETS
from wolfe.study.document import schema


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a set of two splits, one of them in two files."""
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    return write_tiny(tmp_path / "hub")


def test_every_image_is_in_one_split_with_its_label_and_place(root, tmp_path):
    build_dataset("tiny", spec(root), tmp_path / "set", 4)
    card = load_card(tmp_path / "set")
    assert card["counts"] == {"train": 8, "validation": 4, "test": 5}
    assert card["image_shape"] == [3, 32, 32] and card["class_names"] == list(NAMES)
    assert str(tmp_path) not in json.dumps(card)
    rows = {"train": [], "test": []}
    for name in SPLITS:
        part = open_split(tmp_path / "set", name)
        assert part.columns["hub_row"] == sorted(part.columns["hub_row"])
        assert part.labels.tolist() == [row % 3 for row in part.columns["hub_row"]]
        for index, (split, row) in enumerate(zip(part.columns["hub_split"], part.columns["hub_row"], strict=True)):
            rows[split].append(row)
            expected = torch.from_numpy(picture(row, split)[:, 4:36].copy()).permute(2, 0, 1).float() / 255
            assert torch.equal(part.images([index])[0], expected)
    assert sorted(rows["train"]) == list(range(12)) and rows["test"] == list(range(5))


def test_parts_are_drawn_by_the_seed(root, tmp_path):
    def train(seed, folder):
        build_dataset("tiny", spec(root), tmp_path / folder, seed)
        return open_split(tmp_path / folder, "train").columns["hub_row"], load_card(tmp_path / folder)["checksums"]

    assert train(1, "a") == train(1, "b")
    assert len({tuple(train(seed, f"c{seed}")[0]) for seed in range(6)}) > 1


def test_a_set_that_is_written_piece_by_piece_is_the_same(root, tmp_path, monkeypatch):
    build_dataset("tiny", spec(root), tmp_path / "whole", 0)
    monkeypatch.setattr(writer, "_TOGETHER", 3)
    monkeypatch.setattr(hub_pictures, "_TOGETHER", 2)
    monkeypatch.setattr(writer, "usable_cores", lambda: 3)
    monkeypatch.setattr(hub_pictures, "usable_cores", lambda: 3)
    build_dataset("tiny", spec(root), tmp_path / "pieces", 0)
    whole, pieces = (load_card(tmp_path / name) for name in ("whole", "pieces"))
    assert whole == pieces
    assert sorted(path.name for path in (tmp_path / "pieces" / "arrow").iterdir()) == [
        "dataset_dict.json",
        *sorted(SPLITS),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collection": "imagnet"}, "no collection 'imagnet'; there are imagenet, imagenet21k, cifar10"),
        ({"splits": {"train": "train", "test": "test"}}, "splits must say what train, validation, test hold"),
        ({"splits": {**SPLITS, "validation": "train[6:]"}}, "share images"),
        ({"splits": {**SPLITS, "validation": "valid"}}, "no split 'valid' with labels; it has train, test"),
        ({"splits": {**SPLITS, "validation": "train[8-9]"}}, "must look like"),
        ({"splits": {**SPLITS, "validation": "train[12:]"}}, "would be empty: train.12:. of 12 images"),
        ({"size": 4}, "size must be at least 8"),
        ({"shorter_side": 16}, "shorter_side at least that"),
        ({"pad": 13}, "size must be at least 8 without its padding .* got size 32, pad 13"),
        ({"pad": -1}, "pad -1"),
        ({"stretch": True, "shorter_side": 40}, "stretched has no shorter_side"),
        ({"per_class": 0}, "per_class must be at least 1, got 0"),
        ({"classes": 1}, "classes must be from 2 to 3, got 1"),
        ({"classes": 4}, "classes must be from 2 to 3, got 4"),
        ({"classes": "2"}, "classes must be a whole number"),
        ({"size": "32"}, "size must be a whole number"),
        ({"splits": "train"}, "splits must be a map"),
        ({"revison": "main"}, "no option 'revison'; it has collection"),
        ({"data_root": "/nowhere/at/all"}, "data_root /nowhere/at/all is no folder"),
    ],
)
def test_wrong_entries_are_refused(root, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_dataset("tiny", spec(root, changes), tmp_path / "set", 0)
    assert not (tmp_path / "set").exists()


def test_the_schema_knows_the_same_sets():
    branches = schema()["$defs"]["dataset"]["allOf"]
    hub = next(branch for branch in branches if branch["if"]["properties"]["source"].get("const") == "hub")
    said = hub["then"]["properties"]
    assert said["collection"]["enum"] == list(HUB_SETS)
    parameters = {key: item for key, item in inspect.signature(build_hub).parameters.items() if key != "seed"}
    assert set(said) == set(parameters)
    assert set(hub["then"]["required"]) == {key for key, item in parameters.items() if item.default is item.empty}
    defaults = {key: item["default"] for key, item in said.items() if "default" in item}
    assert defaults == {key: item.default for key, item in parameters.items() if item.default is not item.empty}


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("0", 4), ("none", 4), ("9", 4), (None, 4)])
def test_the_workflow_says_how_many_cores_there_are(monkeypatch, said, expected):
    monkeypatch.setattr(source.os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert source.usable_cores() == expected
