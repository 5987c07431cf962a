"""Reads a data set from its folder, once its files are known to be those that were written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wolfe.data.card import check_card, check_files, checked_rows
from wolfe.data.source import SPLITS
from wolfe.data.writer import card_checksum
from wolfe.files import checked, read_json
from wolfe.label_graph import LabelGraph
from wolfe.reading.pictures import read_picture


class ImageSet(Dataset[tuple[Tensor, Tensor]]):
    """One split of a data set; pictures are decoded when asked for.

    Item i is a picture, float32 (C, H, W) in [0, 1], and its label: an int64 scalar, or a float32 vector (n,)
    of 0 and 1 for multi-label sets.

    Args:
        rows: the split as `datasets` loads it.
        card: the data set's card.

    Attributes:
        ids: the pictures' names, unique within the data set.
        labels: (N,) class indices or (N, n) of 0 and 1, int64.
        class_names: what labels mean.
        task: "single" or "multi".
        shape: (C, H, W).
        label_graph: which labels imply which, where there is a hierarchy.
        columns: the further columns by name, as lists (what each picture was made from).
    """

    def __init__(self, rows: Any, card: dict[str, Any]) -> None:
        self.class_names: list[str] = card["class_names"]
        self.task: str = card["task"]
        self.shape: tuple[int, int, int] = tuple(card["image_shape"])
        parents = card.get("label_parents")
        self.label_graph = LabelGraph(parents=tuple(parents)) if parents is not None else None
        table = rows.data
        self.ids: list[str] = table.column("image_id").to_pylist()
        self._images = table.column("image")
        self.labels = self._read_labels(table)
        known = {"image", "image_id", "label", "labels"}
        self.columns = {name: table.column(name).to_pylist() for name in table.column_names if name not in known}

    def _read_labels(self, table: Any) -> Tensor:
        if self.task == "single":
            return torch.tensor(table.column("label").to_pylist(), dtype=torch.long)
        lists = table.column("labels").to_pylist()
        labels = torch.zeros(len(lists), len(self.class_names), dtype=torch.long)
        for row, on in enumerate(lists):
            labels[row, on] = 1
        return labels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        label = self.labels[index]
        return self.images([index])[0], label if self.task == "single" else label.float()

    def images(self, indices: Iterable[int]) -> Tensor:
        """The pictures at some indices, float32 (k, C, H, W) in [0, 1]."""
        pictures = [self._decode(int(index)) for index in indices]
        if not pictures:
            return torch.empty(0, *self.shape)
        return torch.stack(pictures)

    def _decode(self, index: int) -> Tensor:
        channels, height, width = self.shape
        try:
            content = self._images[index].as_py()["bytes"]
            mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"
            array = np.array(read_picture(content, mode, size=(width, height), formats=("PNG",)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"picture {self.ids[index]} of a data set cannot be read ({error})") from error
        channels_first = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(channels_first)).float() / 255


def load_card(folder: Path) -> dict[str, Any]:
    """The card of a data set.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it does not parse, or its content is not what was written.
    """
    path = Path(folder) / "card.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is no finished data set")
    card: dict[str, Any] = read_json(path)
    if not isinstance(card, dict) or card.get("card_sha256") != card_checksum(card):
        raise ValueError(f"{path} is damaged (its checksum differs from the recorded one): build it again")
    check_card(path, card)
    return card


def open_split(folder: Path, split: str) -> ImageSet:
    """Opens one split of a data set, once its checksums are verified.

    Args:
        folder: the data set's folder, with `card.json` and `arrow/`.
        split: "train", "validation" or "test".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file was changed (the message names it), or the split is unknown.
    """
    from datasets import load_from_disk

    folder = Path(folder)
    card = load_card(folder)
    if split not in card["counts"]:
        raise ValueError(f"{folder} has no split {split!r}: it has {', '.join(SPLITS)}")
    for name, expected in card["checksums"].items():
        if name.startswith(f"arrow/{split}/"):
            checked(folder / name, expected)
    check_files(folder, split, card)
    try:
        return ImageSet(checked_rows(load_from_disk(str(folder / "arrow" / split)), split, card), card)
    except FileNotFoundError:
        raise
    except (OSError, KeyError, TypeError, IndexError, AttributeError, pa.ArrowException) as error:
        # `datasets` fails by whatever its files lack.
        raise ValueError(f"{folder / 'arrow' / split} is no data set that can be read ({error!r})") from error
