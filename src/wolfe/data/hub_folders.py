"""Sets whose pictures are files of their own and whose labels stand in text files: PASCAL VOC and NUS-WIDE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wolfe.data.hub_files import checksum
from wolfe.data.hub_labels import check_names
from wolfe.data.hub_sets import HubSet
from wolfe.data.hub_table import PictureFiles, Table, check_count
from wolfe.reading.text import read_text

_VOC_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_NUS_SPLITS = {"train": "Train", "test": "Test"}
# Where copies of NUS-WIDE keep the pictures.
_LARGEST_LIST = 1 << 26
_NUS_PICTURES = ("Flickr", "images", "Images", "ImageData", ".")


def voc_folder(known: HubSet, folder: Path) -> Path | None:
    """Where in a folder the development kit's files of a year lie; None if they do not.

    Args:
        known: VOC of a year; its repository is called as the kit's folder.
        folder: that folder itself, one that holds it, or one that holds `VOCdevkit`.
    """
    places = (folder / "VOCdevkit" / known.repository, folder / known.repository, folder)
    return next((place for place in places if (place / "ImageSets" / "Main").is_dir()), None)


@dataclass(frozen=True)
class _Lists:
    """What the text files of a split say.

    Attributes:
        files: the text files.
        pictures: one path an image.
        columns: for each class whether each image has it, uint8 (N,) of 0 and 1.
        class_names: what the classes mean.
    """

    files: list[Path]
    pictures: list[Path]
    columns: list[NDArray[np.uint8]]
    class_names: list[str]


def open_folder(known: HubSet, split: str, folder: Path, partial: bool) -> tuple[Table, str]:
    """The pictures of a split, each with its labels.

    Args:
        known: VOC of a year, or NUS-WIDE.
        split: its name on the hub.
        folder: of VOC see `voc_folder`; of NUS-WIDE it holds `ImageList`, `Groundtruth/TrainTestLabels` and the
            pictures in `Flickr` or `images`.
        partial: whether pictures may be missing.

    Returns:
        The table and a checksum of its lists in words.

    Raises:
        FileNotFoundError: a list or a picture is missing.
        ValueError: lists do not fit together, or images are missing.
    """
    lists = (_nus_lists if known.layout == "nus_wide" else _voc_lists)(known, split, folder)
    check_names(known, str(folder), lists.class_names)
    labels = np.stack(lists.columns, axis=1)
    table = _table(known, split, lists.pictures, labels, lists.class_names, partial)
    return table, f"lists {checksum(lists.files)}"


def _voc_lists(known: HubSet, split: str, folder: Path) -> _Lists:
    """A class is there where an object of it is that is not difficult."""
    lists, name = folder / "ImageSets" / "Main", _VOC_SPLITS[split]
    files = sorted(path for path in lists.glob(f"*_{name}.txt"))
    if len(files) != known.classes:
        raise FileNotFoundError(f"hub: {lists} has {len(files)} lists *_{name}.txt; {known.title} has {known.classes}")
    images: list[str] = []
    columns = []
    for path in files:
        words = [line.split() for line in _lines(path)]
        if any(len(pair) != 2 or pair[1] not in ("1", "0", "-1") for pair in words):
            raise ValueError(f"hub: {path} must hold an image and 1, 0 or -1 a line")
        images = images or [pair[0] for pair in words]
        if images != [pair[0] for pair in words]:
            raise ValueError(f"hub: {path} and {files[0]} list other images")
        # 0 marks a class of which only difficult objects are there.
        columns.append(np.asarray([pair[1] == "1" for pair in words], np.uint8))
    pictures = [_inside(folder / "JPEGImages", f"{image}.jpg") for image in images]
    return _Lists(files, pictures, columns, [path.name.removesuffix(f"_{name}.txt") for path in files])


def _nus_lists(known: HubSet, split: str, folder: Path) -> _Lists:
    """A concept is there where the authors found it."""
    name, truths = _NUS_SPLITS[split], folder / "Groundtruth" / "TrainTestLabels"
    listed = folder / "ImageList" / f"{name}Imagelist.txt"
    files = sorted(truths.glob(f"Labels_*_{name}.txt"))
    if not listed.is_file() or len(files) != known.classes:
        raise FileNotFoundError(
            f"hub: {folder} must hold {listed.relative_to(folder)} and {known.classes} files "
            f"{truths.relative_to(folder)}/Labels_*_{name}.txt; it has {len(files)} of these"
        )
    images = [line.strip().replace("\\", "/") for line in _lines(listed)]
    columns = []
    for path in files:
        values = np.asarray([line.strip() for line in _lines(path)])
        if len(values) != len(images) or not np.isin(values, ["0", "1"]).all():
            raise ValueError(f"hub: {path} must hold 0 or 1 for each of the {len(images)} images of {listed.name}")
        columns.append((values == "1").astype(np.uint8))
    root = _pictures(folder, images)
    class_names = [path.name.removeprefix("Labels_").removesuffix(f"_{name}.txt") for path in files]
    return _Lists([listed, *files], [_inside(root, image) for image in images], columns, class_names)


def _pictures(folder: Path, images: Sequence[str]) -> Path:
    """Where in a copy of NUS-WIDE the pictures are; some may be missing there, so more than one is looked for."""
    places = [folder / place for place in _NUS_PICTURES]
    return next((place for place in places if any((place / image).is_file() for image in images[:100])), places[0])


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from (line for line in read_text(path, _LARGEST_LIST).splitlines() if line.strip())
    except ValueError as error:
        raise ValueError(f"hub: {path} {error}") from None


def _inside(folder: Path, name: str) -> Path:
    """A file of a folder by the name that a list gives it.

    Raises:
        ValueError: the name leads out of the folder, so that another file would become a picture of the set.
    """
    if "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"hub: a list names {name!r}, which is no file of {folder}")
    return folder / name


def _table(
    known: HubSet,
    split: str,
    paths: Sequence[Path],
    labels: NDArray[np.uint8],
    class_names: list[str],
    partial: bool,
) -> Table:
    """The images whose pictures are there, if they are all or a part is meant."""
    there = np.asarray([path.is_file() for path in paths], bool)
    if not there.any() or not (partial or there.all()):
        lacking = paths[int(np.argmin(there))]
        raise FileNotFoundError(
            f"hub: {len(paths) - there.sum()} of {len(paths)} pictures of {split} of {known.title} are missing, among "
            f"them {lacking}" + ("" if partial else "; say partial: true to go without")
        )
    check_count(known, split, int(there.sum()), partial)
    kept = tuple(path for path, found in zip(paths, there, strict=True) if found)
    return Table(labels[there], class_names, (PictureFiles(kept),), np.array([0, len(kept)]), {split: len(kept)})
