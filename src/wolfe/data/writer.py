"""Writes a data set: Arrow files as `datasets` saves them, and a card with the checksum of each."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wolfe.data.source import Source, Split, usable_cores
from wolfe.files import atomic_path, sha256, write_json

# Pictures that are encoded before they go to the disk; a set may be larger than the memory.
_TOGETHER = 500


def write_source(name: str, origin: str, source: Source, folder: Path) -> None:
    """Writes `folder/arrow/<split>/` and `folder/card.json`, the card last; each is whole or absent.

    The same source gives the same bytes in any process.

    Args:
        name: the data set's name in the study.
        origin: the name of the source in the registry.
        source: what to write.
        folder: where; what stood there under these names is replaced.
    """
    (folder / "card.json").unlink(missing_ok=True)
    with atomic_path(folder / "arrow") as temporary:
        _write_arrow(name, source, temporary)
    files = sorted(path for path in (folder / "arrow").rglob("*") if path.is_file())
    first = source.splits["train"].images[0]
    card: dict[str, Any] = {
        "name": name,
        "source": origin,
        "revision": source.revision,
        "provenance": source.provenance,
        "task": source.task,
        "class_names": source.class_names,
        "counts": {split: len(part.images) for split, part in source.splits.items()},
        "image_shape": [3 if first.ndim == 3 else 1, *first.shape[:2]],
        "checksums": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }
    if source.label_parents is not None:
        card["label_parents"] = list(source.label_parents)
    write_json(folder / "card.json", {**card, "card_sha256": card_checksum(card)})


def card_checksum(card: dict[str, Any]) -> str:
    """The SHA-256 of a card's own content, without the entry that holds it."""
    content = {key: value for key, value in card.items() if key != "card_sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_arrow(name: str, source: Source, folder: Path) -> None:
    import datasets

    features = _features(source)
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        parts = {}
        for split, part in source.splits.items():
            rows = _rows(source, split, part, features, folder / f".{split}")
            # `datasets` draws a random one, which would make two equal data sets differ.
            rows._fingerprint = hashlib.sha256(f"{name}/{split}".encode()).hexdigest()[:16]
            parts[split] = rows
        datasets.DatasetDict(parts).save_to_disk(str(folder))
        for split in parts:
            (folder / f".{split}").unlink(missing_ok=True)
    finally:
        if shown:
            datasets.enable_progress_bars()


def _features(source: Source) -> Any:
    """The Arrow types of all columns, as `datasets` names them."""
    import datasets

    label = datasets.ClassLabel(names=source.class_names)
    features: dict[str, Any] = {"image": datasets.Image(), "image_id": datasets.Value("string")}
    if source.task == "single":
        features["label"] = label
    else:
        features["labels"] = datasets.List(label)
    for column, kind in source.column_types.items():
        features[column] = datasets.Value(kind) if isinstance(kind, str) else datasets.List(datasets.Value(kind[0]))
    return datasets.Features(features)


def _rows(source: Source, split: str, part: Split, features: Any, file: Path) -> Any:
    """A split as `datasets` holds it: in memory if it is small, else in a file that is read where it is needed."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    if len(part.images) <= _TOGETHER:
        return datasets.Dataset.from_dict(next(_columns(source, split, part)), features=features)
    file.parent.mkdir(parents=True, exist_ok=True)
    with ArrowWriter(features=features, path=str(file)) as writer:
        for columns in _columns(source, split, part):
            writer.write_batch(columns)
        writer.finalize()
    return datasets.Dataset.from_file(str(file))


def _columns(source: Source, split: str, part: Split) -> Iterator[dict[str, Any]]:
    """The columns of a split, some pictures at a time."""
    pictures = iter(part.images)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(part.images), _TOGETHER):
            encoded = [{"bytes": png, "path": None} for png in pool.map(_png, islice(pictures, _TOGETHER))]
            chosen = slice(start, start + len(encoded))
            yield {
                "image": encoded,
                "image_id": [f"{split}-{index:05d}" for index in range(start, start + len(encoded))],
                ("label" if source.task == "single" else "labels"): list(part.labels[chosen]),
                **{column: list(values[chosen]) for column, values in part.columns.items()},
            }


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=4)
    return stream.getvalue()
