"""Small files laid out like those of published image sets."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from wolfe.data import build_dataset, load_card, open_split
from wolfe.data.hub_sets import HUB_SETS, HubSet

NAMES = ("ant", "bee", "cat")
TINY = HubSet(title="Tiny", repository="someone/tiny", counts={"train": 12, "test": 5}, classes=3)
SPLITS = {"train": "train[:8]", "validation": "train[8:]", "test": "test"}


def picture(row, split, width=40, height=32):
    """A picture that no other row of any split has."""
    random = np.random.default_rng([row, len(split)])
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(row, split):
    stream = io.BytesIO()
    Image.fromarray(picture(row, split)).save(stream, format="PNG")
    return stream.getvalue()


def write_parquet(path, split, count, image="image", label="label", names=NAMES, first=0, groups=2):
    """Parquet files as the hub has them: pictures as bytes, the classes' names in the metadata."""
    labels = pa.array([row % 3 for row in range(first, first + count)], pa.int64())
    feature = {"names": list(names), "_type": "ClassLabel"}
    write_columns(path, split, {label: labels}, {label: feature}, first, groups, image)


def write_columns(path, split, columns, features, first=0, groups=1, image="image"):
    """Pictures beside other columns, each with what `datasets` would say of it."""
    count = len(next(iter(columns.values())))
    cells = [{"bytes": png(row, split), "path": None} for row in range(first, first + count)]
    said = {"info": {"features": {image: {"_type": "Image"}, **features}}}
    table = pa.table({image: cells, **columns}).replace_schema_metadata({"huggingface": json.dumps(said)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=-(-count // groups))


def write_tiny(folder):
    """A set of two splits, one of them in two files."""
    write_parquet(folder / "data" / "train-00000-of-00002.parquet", "train", 7)
    write_parquet(folder / "data" / "train-00001-of-00002.parquet", "train", 5, first=7)
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", "test", 5)
    return folder


def spec(root, changes=None):
    entry = {"source": "hub", "collection": "tiny", "size": 32, "splits": dict(SPLITS), "data_root": str(root)}
    return {**entry, **(changes or {})}


VOC = HubSet(
    **{**vars(HUB_SETS["voc2012"]), "classes": 3, "class_names": NAMES, "counts": {"train": 4, "validation": 3}}
)
# The marks of the classes of each picture: there, only difficult ones there, not there.
MARKS = {
    "train": [(1, -1, 0), (-1, 1, 1), (0, 0, 1), (-1, -1, 1)],
    "val": [(1, 1, 1), (-1, 0, -1), (-1, 1, -1)],
}


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
