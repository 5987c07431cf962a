"""Opens a split of a published set, whatever holds it: parquet files, a folder with pictures, or a network."""

from __future__ import annotations

from pathlib import Path

from wolfe.data.hub_fetch import VOC2012_MD5, fetched_voc
from wolfe.data.hub_files import open_parquet, parquet_files, split_files
from wolfe.data.hub_folders import open_folder, voc_folder
from wolfe.data.hub_sets import HubSet
from wolfe.data.hub_table import Table


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
    if data_root is None and known.origin == "archive":
        table, _ = _open_folder(known, split, fetched_voc(known), partial)
        return table, f"archive with MD5 {VOC2012_MD5}"
    if data_root is not None and known.layout != "parquet" and not parquet_files(known, split, Path(data_root)):
        return _open_folder(known, split, Path(data_root), partial)
    found, said = split_files(known, split, data_root, revision or known.revision, files)
    return open_parquet(known, split, found, partial or files is not None), said


def _open_folder(known: HubSet, split: str, folder: Path, partial: bool) -> tuple[Table, str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"hub: data_root {folder} is no folder")
    place = folder if known.layout == "nus_wide" else voc_folder(known, folder)
    if place is None:
        wanted = " or ".join(f"{beginning}-*.parquet" for beginning in known.beginnings(split))
        raise FileNotFoundError(
            f"hub: {folder} has neither VOCdevkit/{known.repository}/ImageSets/Main nor files {wanted}: put one there"
        )
    return open_folder(known, split, place, partial)
