"""Sets whose pictures are files: PASCAL VOC and NUS-WIDE in the folders that their authors give."""

from __future__ import annotations

import pytest
import torch

from tests.unit.published_files import MARKS, NAMES, VOC, build, check, picture, png, voc, write_columns
from wolfe.data import build_dataset, open_split
from wolfe.data.hub_folders import voc_folder
from wolfe.data.hub_sets import HUB_SETS, HubSet
from wolfe.study.errors import StudyError
from wolfe.study.sources import check_source

NUS = HubSet(**{**vars(HUB_SETS["nus_wide"]), "classes": 3, "counts": {"train": 4, "test": 3}})
SWAPPED = {"train": "validation[:2]", "validation": "validation[2:]", "test": "train"}
TRUTHS = {"Train": [(1, 0, 1), (0, 0, 0), (0, 1, 0), (1, 1, 1)], "Test": [(0, 0, 1), (0, 0, 0), (1, 0, 0)]}


def nus(folder, place="Flickr"):
    truths = folder / "Groundtruth" / "TrainTestLabels"
    truths.mkdir(parents=True)
    (folder / "ImageList").mkdir()
    for split, rows in TRUTHS.items():
        lines = [f"actor\\{split}_{row}.jpg" for row in range(len(rows))]
        (folder / "ImageList" / f"{split}Imagelist.txt").write_text("".join(f"{line} \r\n" for line in lines))
        for number, name in enumerate(NAMES):
            text = "".join(f"{on[number]}\n" for on in rows)
            (truths / f"Labels_{name}_{split}.txt").write_text(text)
        for row in range(len(rows)):
            path = folder / place / "actor" / f"{split}_{row}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(row, split))
    return folder


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    monkeypatch.setitem(HUB_SETS, "voc2012", VOC)
    monkeypatch.setitem(HUB_SETS, "nus_wide", NUS)


@pytest.mark.parametrize("place", ["VOCdevkit/VOC2012", "VOC2012", "."])
def test_voc_has_the_labels_of_objects_that_are_not_difficult(tmp_path, place):
    voc(tmp_path / "root" / place)
    card = build("voc2012", tmp_path / "root", tmp_path / "set")
    assert (card["task"], card["class_names"]) == ("multi", list(NAMES))
    assert card["counts"] == {"train": 3, "validation": 1, "test": 3}
    assert card["revision"].startswith("VOC2012 train: lists ") and str(tmp_path) not in str(card)
    on = {name: [[int(mark == 1) for mark in marks] for marks in rows] for name, rows in MARKS.items()}
    check(tmp_path / "set", {"train": "train", "validation": "val"}, on)


@pytest.mark.parametrize("place", ["Flickr", "images", "."])
def test_nus_wide_has_the_concepts_of_its_truths(tmp_path, place):
    nus(tmp_path / "root", place)
    card = build("nus_wide", tmp_path / "root", tmp_path / "set")
    assert (card["task"], card["class_names"]) == ("multi", list(NAMES))
    on = {name: [list(row) for row in rows] for name, rows in TRUTHS.items()}
    check(tmp_path / "set", {"train": "Train", "test": "Test"}, on)


def test_parquet_files_in_the_folder_are_used_instead(tmp_path):
    feature = {"feature": {"names": list(NAMES), "_type": "ClassLabel"}, "_type": "List"}
    for split, count in (("train", 4), ("val", 3)):
        columns = {"labels": [[1]] * count}
        write_columns(tmp_path / "root" / f"{split}-00000-of-00001.parquet", split, columns, {"labels": feature})
    assert build("voc2012", tmp_path / "root", tmp_path / "set")["counts"]["test"] == 3
    assert open_split(tmp_path / "set", "test").labels.tolist() == [[0, 1, 0]] * 3


def test_pictures_that_are_missing_are_named_unless_that_is_meant(tmp_path):
    voc(tmp_path / "root")
    (tmp_path / "root" / "JPEGImages" / "val_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 pictures of validation of PASCAL VOC2012 are missing.*val_1"):
        build("voc2012", tmp_path / "root", tmp_path / "set")
    assert build("voc2012", tmp_path / "root", tmp_path / "set", partial=True)["counts"]["test"] == 2
    part = open_split(tmp_path / "set", "test")
    assert part.labels.tolist() == [[1, 1, 1], [0, 1, 0]]
    expected = torch.from_numpy(picture(2, "val")[:, 4:36].copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(part.images([1])[0], expected)
    for path in (tmp_path / "root" / "JPEGImages").glob("val_*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="3 of 3 pictures"):
        build("voc2012", tmp_path / "root", tmp_path / "set", partial=True)


def test_the_first_picture_of_nus_wide_may_be_missing(tmp_path):
    nus(tmp_path / "root", "images")
    (tmp_path / "root" / "images" / "actor" / "Test_0.jpg").unlink()
    assert build("nus_wide", tmp_path / "root", tmp_path / "set", partial=True)["counts"]["test"] == 2
    assert open_split(tmp_path / "set", "test").labels.tolist() == [list(row) for row in TRUTHS["Test"][1:]]


@pytest.mark.parametrize(
    ("file", "text", "error", "message"),
    [
        ("bee_val.txt", None, FileNotFoundError, r"has 2 lists \*_val.txt; PASCAL VOC2012 has 3"),
        ("bee_val.txt", "val_0 1\nval_1 2\nval_2 1\n", ValueError, r"bee_val.txt must hold an image and 1, 0 or -1"),
        ("bee_val.txt", "val_0\nval_1\nval_2\n", ValueError, r"bee_val.txt must hold an image and 1, 0 or -1"),
        ("bee_val.txt", "val_0 1\nval_2 1\nval_1 1\n", ValueError, r"bee_val.txt and .*ant_val.txt list other images"),
    ],
)
def test_lists_of_voc_that_do_not_fit_are_refused(tmp_path, file, text, error, message):
    path = voc(tmp_path / "root") / "ImageSets" / "Main" / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(error, match=message):
        build("voc2012", tmp_path / "root", tmp_path / "set")


@pytest.mark.parametrize(
    ("file", "text", "error", "message"),
    [
        ("ImageList/TestImagelist.txt", None, FileNotFoundError, "must hold ImageList/TestImagelist.txt and 3 files"),
        ("Groundtruth/TrainTestLabels/Labels_bee_Test.txt", None, FileNotFoundError, "it has 2 of these"),
        ("Groundtruth/TrainTestLabels/Labels_bee_Test.txt", "0\n1\n", ValueError, "0 or 1 for each of the 3 images"),
        ("Groundtruth/TrainTestLabels/Labels_bee_Test.txt", "0\n1\n2\n", ValueError, "must hold 0 or 1 for each"),
    ],
)
def test_lists_of_nus_wide_that_do_not_fit_are_refused(tmp_path, file, text, error, message):
    path = nus(tmp_path / "root") / file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(error, match=message):
        build("nus_wide", tmp_path / "root", tmp_path / "set")


def test_classes_of_another_set_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(HUB_SETS, "voc2012", HubSet(**{**vars(VOC), "class_names": ("ant", "bird", "cat")}))
    voc(tmp_path / "root")
    with pytest.raises(ValueError, match=r"root calls class 1 'bee', PASCAL VOC2012 'bird': these are no files of it"):
        build("voc2012", tmp_path / "root", tmp_path / "set")


def test_more_images_than_were_published_are_refused(tmp_path):
    voc(tmp_path / "root", {**MARKS, "val": [(1, 1, 1)] * 4})
    with pytest.raises(ValueError, match="validation of VOC2012 has 3 images, the files hold 4"):
        build("voc2012", tmp_path / "root", tmp_path / "set", partial=True)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    assert voc_folder(VOC, tmp_path / "root") is None
    with pytest.raises(
        FileNotFoundError, match=r"neither VOCdevkit/VOC2012/ImageSets/Main nor files val-\*.parquet or"
    ):
        build("voc2012", tmp_path / "root", tmp_path / "set", splits=SWAPPED)
    with pytest.raises(FileNotFoundError, match=r"data_root .*absent is no folder"):
        build("voc2012", tmp_path / "absent", tmp_path / "set")


@pytest.mark.parametrize(
    ("collection", "splits", "message"),
    [
        ("voc2007", {"train": "train", "validation": "validation", "test": "test"}, "of PASCAL VOC2007.*VOCdevkit"),
        ("nus_wide", {"train": "train[:3]", "validation": "train[3:]", "test": "test"}, "of NUS-WIDE.*ImageList"),
    ],
)
def test_sets_that_cannot_be_fetched_need_a_folder(tmp_path, collection, splits, message):
    entry = {"source": "hub", "collection": collection, "size": 64, "splits": splits}
    with pytest.raises(ValueError, match=f"the pictures {message}.* as data_root .of this entry, or of the study"):
        build_dataset(collection, entry, tmp_path / "set", 0)
    with pytest.raises(StudyError, match=rf"datasets\.a: hub: the pictures {message}"):
        check_source("datasets.a", {**entry, "data_root": None})
    check_source("datasets.a", {**entry, "data_root": "somewhere"})
