"""Data sets from strangers: their rows are what their card says, and nothing of them lies elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.fuzz import files
from wolfe.data.card import checked_rows
from wolfe.data.hub_folders import _inside
from wolfe.data.image_set import load_card, open_split
from wolfe.data.writer import card_checksum
from wolfe.files import write_json


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with labels in a hierarchy."""
    return files.write_datasets(tmp_path_factory.mktemp("data"))[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "x"), ("class_names", "abc"), ("class_names", []), ("class_names", ["x" * 501]), ("counts", {"x": 1}),
        ("counts", {"test": -1}), ("counts", {"test": 10**12}), ("image_shape", [3, 10**5, 10**5]),
        ("image_shape", [4, 8, 8]), ("image_shape", [3, 8.5, 8]), ("checksums", ["x"]), ("label_parents", [None]),
        ("label_parents", 3),
    ],
)  # fmt: skip
def test_a_card_that_is_absurd_is_refused(dataset: Path, tmp_path: Path, key: str, value: Any) -> None:
    card = {**load_card(dataset), key: value}
    write_json(tmp_path / "card.json", {**card, "card_sha256": card_checksum(card)})
    with pytest.raises(ValueError, match=rf"card\.json is damaged: {key} is not what"):
        load_card(tmp_path)


def test_a_file_that_no_card_names_is_refused(dataset: Path, tmp_path: Path) -> None:
    card = load_card(dataset)
    card["checksums"] = {name: value for name, value in card["checksums"].items() if not name.endswith(".arrow")}
    write_json(tmp_path / "card.json", {**card, "card_sha256": card_checksum(card)})
    (tmp_path / "arrow").symlink_to(dataset / "arrow")
    with pytest.raises(ValueError, match="is not on the card"):
        open_split(tmp_path, "test")


class Rows:
    """What `datasets` would hold."""

    def __init__(self, **columns: Any) -> None:
        self.data = pa.table(columns)


CARD = {"task": "single", "class_names": ["a", "b"], "counts": {"test": 2}}
PICTURE = pa.array([{"bytes": b"", "path": None}] * 2, pa.struct({"bytes": pa.binary(), "path": pa.string()}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [0, 2]}, "labels from 0 to 2 of 2 classes"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [-1, 1]}, "labels from -1"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [None, 1]}, "without a label"),
        ({"image": PICTURE, "image_id": pa.nulls(2), "label": [0, 1]}, "no column image_id"),
        ({"image": pa.array([b"", b""]), "image_id": ["a", "b"], "label": [0, 1]}, "no column image"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": ["0", "1"]}, "no column label"),
        ({"image": PICTURE, "image_id": ["a", "b"], "label": [0, 1], "more": [{"a": 1}] * 2}, "no column more"),
        ({"image_id": pa.nulls(1000)}, "holds 1000 images, its card says 2"),
    ],
)
def test_rows_must_be_what_their_card_says(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_rows(Rows(**columns), "test", CARD)
    right = Rows(image=PICTURE, image_id=["a", "b"], label=[0, 1])
    assert checked_rows(right, "test", CARD) is right


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "a\0.jpg"])
def test_a_list_of_pictures_names_none_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="which is no file of"):
        _inside(tmp_path, name)
    assert _inside(tmp_path, "a/b..c.jpg") == tmp_path / "a" / "b..c.jpg"
