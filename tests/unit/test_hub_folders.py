"""Sets whose pictures are files: PASCAL VOC and NUS-WIDE in the folders that their authors give, and VOC's archive."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from tests.unit.published_files import NAMES, picture, png, write_columns
from wolfe.data import build_dataset, hub_open, load_card, open_split
from wolfe.data.hub_folders import voc_folder
from wolfe.data.hub_sets import HUB_SETS, HubSet

VOC = HubSet(**{**vars(HUB_SETS["voc2012"]), "classes": 3, "counts": {"train": 4, "validation": 3}})
NUS = HubSet(**{**vars(HUB_SETS["nus_wide"]), "classes": 3, "counts": {"train": 4, "test": 3}})
SWAPPED = {"train": "validation[:2]", "validation": "validation[2:]", "test": "train"}
# The marks of the classes of each picture: there, only difficult ones there, not there.
MARKS = {
    "train": [(1, -1, 0), (-1, 1, 1), (0, 0, 1), (-1, -1, 1)],
    "val": [(1, 1, 1), (-1, 0, -1), (-1, 1, -1)],
}
TRUTHS = {"Train": [(1, 0, 1), (0, 0, 0), (0, 1, 0), (1, 1, 1)], "Test": [(0, 0, 1), (0, 0, 0), (1, 0, 0)]}


def voc(folder, marks=MARKS):
    """A development kit with the lists of `marks`; picture `train_2` is row 2 of the training split."""
    lists, images = folder / "ImageSets" / "Main", folder / "JPEGImages"
    lists.mkdir(parents=True)
    images.mkdir()
    for split, rows in marks.items():
        for number, name in enumerate(NAMES):
            # The authors' lists align their columns with blanks.
            text = "".join(f"{split}_{row} {marked[number]:2d}\n" for row, marked in enumerate(rows))
            (lists / f"{name}_{split}.txt").write_text(text)
        for row in range(len(rows)):
            (images / f"{split}_{row}.jpg").write_bytes(png(row, split))
    (lists / "trainval.txt").write_text("train_0\n")
    return folder


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


def build(collection, root, folder, splits=None, partial=False):
    test = "test" if collection == "nus_wide" else "validation"
    entry = {
        "source": "hub",
        "collection": collection,
        "size": 32,
        "splits": splits or {"train": "train[:3]", "validation": "train[3:]", "test": test},
        "data_root": root and str(root),
        "partial": partial,
    }
    build_dataset(collection, entry, folder, 0)
    return load_card(folder)


def check(folder, names, on):
    """Every picture has the labels `on` gives it, and is that of its row."""
    seen = []
    for split in ("train", "validation", "test"):
        part = open_split(folder, split)
        for index, (source, row) in enumerate(zip(part.columns["hub_split"], part.columns["hub_row"], strict=True)):
            name = names[source]
            seen.append((name, row))
            assert part.labels[index].tolist() == on[name][row]
            expected = torch.from_numpy(picture(row, name)[:, 4:36].copy()).permute(2, 0, 1).float() / 255
            assert torch.equal(part.images([index])[0], expected)
    assert sorted(seen) == sorted((name, row) for name, rows in on.items() for row in range(len(rows)))


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


def archived(tmp_path, monkeypatch):
    """The archive of a kit, as what a download would bring, and how often it was asked for."""
    voc(tmp_path / "kit" / "VOCdevkit" / "VOC2012")
    archive, asked = tmp_path / "kit.tar", []
    with tarfile.open(archive, "w") as content:
        content.add(tmp_path / "kit" / "VOCdevkit", "VOCdevkit")

    def download(url, path, progress):
        asked.append(url)
        Path(path).write_bytes(archive.read_bytes())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "kept"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(hub_open, "_VOC2012_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return asked


def test_voc2012_is_fetched_once_and_checked(tmp_path, monkeypatch):
    asked = archived(tmp_path, monkeypatch)
    card = build("voc2012", None, tmp_path / "set")
    assert card["revision"] == "; ".join(
        f"VOC2012 {split}: archive with MD5 {hub_open._VOC2012_MD5}" for split in ("train", "validation")
    )
    build("voc2012", None, tmp_path / "again")
    assert len(asked) == 1 and asked[0].endswith("VOCtrainval_11-May-2012.tar")
    on = {name: [[int(mark == 1) for mark in marks] for marks in rows] for name, rows in MARKS.items()}
    check(tmp_path / "set", {"train": "train", "validation": "val"}, on)


def test_a_damaged_archive_leaves_nothing(tmp_path, monkeypatch):
    archived(tmp_path, monkeypatch)
    monkeypatch.setattr(hub_open, "_VOC2012_MD5", "0" * 32)
    with pytest.raises(ValueError, match=f"has the MD5 .*, not {'0' * 32}: try again"):
        build("voc2012", None, tmp_path / "set")
    assert list((tmp_path / "kept" / "data").iterdir()) == []


def test_without_a_network_voc_says_what_to_do(tmp_path, monkeypatch):
    archived(tmp_path, monkeypatch)

    def refused(url, path, progress):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    with pytest.raises(FileNotFoundError, match=r"cannot be fetched here .*no network.*unpack VOCtrainval.*data_root"):
        build("voc2012", None, tmp_path / "set")
    splits = {"train": "train", "validation": "validation", "test": "test"}
    with pytest.raises(FileNotFoundError, match="PASCAL VOC2007 is not fetched: name its folder as data_root"):
        build("voc2007", None, tmp_path / "set", splits=splits)


def test_nus_wide_says_that_its_repository_has_no_pictures(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"no files train-\*.parquet.*known to hold labels alone: name a folder"
    ):
        build("nus_wide", None, tmp_path / "set")
