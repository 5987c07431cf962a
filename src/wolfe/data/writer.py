"""Writes a data set: Arrow files as `datasets` saves them, and a card with the checksum of each."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wolfe.data.source import Source, Split
from wolfe.files import atomic_path, sha256, write_json


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
            rows = datasets.Dataset.from_dict(_columns(source, split, part), features=features)
            # `datasets` draws a random one, which would make two equal data sets differ.
            rows._fingerprint = hashlib.sha256(f"{name}/{split}".encode()).hexdigest()[:16]
            parts[split] = rows
        datasets.DatasetDict(parts).save_to_disk(str(folder))
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


def _columns(source: Source, split: str, part: Split) -> dict[str, Any]:
    return {
        "image": [{"bytes": _png(image), "path": None} for image in part.images],
        "image_id": [f"{split}-{index:05d}" for index in range(len(part.images))],
        ("label" if source.task == "single" else "labels"): list(part.labels),
        **{column: list(values) for column, values in part.columns.items()},
    }


def _png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", compress_level=4)
    return stream.getvalue()
