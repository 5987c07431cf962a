"""Small files laid out like those of published image sets."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from wolfe.data.hub_sets import HubSet

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
