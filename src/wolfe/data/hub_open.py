"""Opens a split of a published set, whatever holds it: parquet files, a folder with pictures, or a network."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from wolfe.data.hub_files import open_parquet, parquet_files, split_files
from wolfe.data.hub_folders import open_nus_wide, open_voc, voc_folder
from wolfe.data.hub_sets import HubSet
from wolfe.data.hub_table import Table
from wolfe.files import atomic_path

# As torchvision names them.
_VOC2012 = "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
_VOC2012_MD5 = "6cd6e144f989b92b3379bac3b3de84fd"


def open_split_table(
    known: HubSet, split: str, data_root: str | None, revision: str | None, partial: bool, files: int | None = None
) -> tuple[Table, str]:
    """All of a split but its pictures, and what holds it in words.

    Args:
        known: the data set.
        split: its name on the hub.
        data_root: a folder that holds the set; None to fetch it.
        revision: which state of the hub's repository to fetch; None for the one that is known to be right.
        partial: whether images may be missing.
        files: how many of the split's parquet files are used, at even distances; None for all.

    Raises:
        ValueError: files that are not those of the set.
        FileNotFoundError: what is needed is missing and cannot be fetched; the message says what to do.
    """
    if data_root is not None and known.layout != "parquet" and not parquet_files(known, split, Path(data_root)):
        return _open_folder(known, split, Path(data_root), partial)
    if data_root is None and known.layout == "voc":
        table, _ = _open_folder(known, split, _fetched_voc(known), partial)
        return table, f"archive with MD5 {_VOC2012_MD5}"
    try:
        found, said = split_files(known, split, data_root, revision or known.revision, files)
    except FileNotFoundError as error:
        if known.layout != "nus_wide":
            raise
        raise FileNotFoundError(
            f"{error}. The repository is known to hold labels alone: name a folder as data_root with ImageList, "
            "Groundtruth/TrainTestLabels and the pictures in Flickr, or with parquet files"
        ) from error
    return open_parquet(known, split, found, partial or files is not None), said


def _open_folder(known: HubSet, split: str, folder: Path, partial: bool) -> tuple[Table, str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"hub: data_root {folder} is no folder")
    if known.layout == "nus_wide":
        return open_nus_wide(known, split, folder, partial)
    place = voc_folder(known, folder)
    if place is None:
        wanted = " or ".join(f"{beginning}-*.parquet" for beginning in known.beginnings(split))
        raise FileNotFoundError(
            f"hub: {folder} has neither VOCdevkit/{known.repository}/ImageSets/Main nor files {wanted}: put one there"
        )
    return open_voc(known, split, place, partial)


def _fetched_voc(known: HubSet) -> Path:
    """The folder with the unpacked archive of VOC2012, fetched if it is not there yet.

    Raises:
        FileNotFoundError: it cannot be fetched, or it is of another year.
        ValueError: what came is not the archive.
    """
    import torch

    if known.repository != "VOC2012":
        raise FileNotFoundError(f"hub: {known.title} is not fetched: name its folder as data_root")
    kept = Path(torch.hub.get_dir()) / "data" / known.repository
    if kept.is_dir():
        return kept
    with atomic_path(kept.with_suffix(".tar")) as archive:
        try:
            torch.hub.download_url_to_file(_VOC2012, str(archive), progress=False)
        except OSError as error:
            raise FileNotFoundError(
                f"hub: {known.title} cannot be fetched here ({error}): unpack {_VOC2012.rsplit('/', 1)[-1]} and name "
                "the folder that holds VOCdevkit as data_root"
            ) from error
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != _VOC2012_MD5:
            raise ValueError(f"hub: the archive of {known.title} has the MD5 {found}, not {_VOC2012_MD5}: try again")
        with atomic_path(kept) as folder, tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
    return kept
