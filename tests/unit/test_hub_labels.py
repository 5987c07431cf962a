"""Images with several labels: lists of labels, boxes with a category each, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.unit.published_files import NAMES, write_columns
from wolfe.data import build_dataset, load_card, open_split
from wolfe.data.hub_sets import HUB_SETS, HubSet

MANY = HubSet(
    title="Many",
    repository="someone/many",
    counts={"train": 6, "validation": 3},
    classes=3,
    task="multi",
    label=("labels", "objects"),
    files=(("validation", ("val", "validation")),),
)
LABELS = [[0, 2], [], [1], [2, 1, 0], [1, 1], [0]]
SPLITS = {"train": "train[:4]", "validation": "train[4:]", "test": "validation"}
CATEGORY = {"names": list(NAMES), "_type": "ClassLabel"}
BOX = pa.struct([("bbox_id", pa.int64()), ("category", pa.int64()), ("bbox", pa.list_(pa.float64()))])


def lists(labels):
    return {"labels": pa.array(labels, pa.list_(pa.int64()))}, {"labels": {"feature": CATEGORY, "_type": "List"}}


def lists_of_boxes(labels):
    """Boxes as newer files hold them: a list of structs."""
    rows = [[{"bbox_id": 7, "category": label, "bbox": [0.0]} for label in row] for row in labels]
    feature = {"feature": {"bbox_id": {"dtype": "int64"}, "category": CATEGORY}, "_type": "List"}
    return {"objects": pa.array(rows, pa.list_(BOX))}, {"objects": feature}


def boxes_of_lists(labels):
    """Boxes as older files hold them: a struct of lists."""
    rows = [{"bbox_id": [7 for _ in row], "category": row} for row in labels]
    kind = pa.struct([("bbox_id", pa.list_(pa.int64())), ("category", pa.list_(pa.int64()))])
    feature = {"feature": {"bbox_id": {"dtype": "int64"}, "category": CATEGORY}, "_type": "Sequence"}
    return {"objects": pa.array(rows, kind)}, {"objects": feature}


def nested_features(labels):
    """The same with its features written another way."""
    columns, _ = boxes_of_lists(labels)
    return columns, {"objects": {"category": {"feature": CATEGORY, "_type": "List"}, "bbox_id": {"dtype": "int64"}}}


@pytest.fixture
def entry(tmp_path, monkeypatch):
    monkeypatch.setitem(HUB_SETS, "many", MANY)
    return {"source": "hub", "collection": "many", "size": 32, "splits": SPLITS, "data_root": str(tmp_path / "hub")}


def write(folder, layout, train=LABELS, validation=LABELS[:3], name="val"):
    write_columns(folder / "hub" / "data" / "train-00000-of-00001.parquet", "train", *layout(train))
    write_columns(folder / "hub" / "data" / f"{name}-00000-of-00001.parquet", "validation", *layout(validation))


@pytest.mark.parametrize("name", ["val", "validation"])
@pytest.mark.parametrize("layout", [lists, lists_of_boxes, boxes_of_lists, nested_features])
def test_labels_are_the_set_of_what_is_there(entry, tmp_path, layout, name):
    write(tmp_path, layout, name=name)
    build_dataset("many", entry, tmp_path / "set", 0)
    card = load_card(tmp_path / "set")
    assert (card["task"], card["class_names"], card["counts"]) == (
        "multi", list(NAMES), {"train": 4, "validation": 2, "test": 3},
    )  # fmt: skip
    rows = {"train": [], "validation": []}
    for name in SPLITS:
        part = open_split(tmp_path / "set", name)
        for index, (split, row) in enumerate(zip(part.columns["hub_split"], part.columns["hub_row"], strict=True)):
            rows[split].append(row)
            assert part.labels[index].nonzero().flatten().tolist() == sorted(set(LABELS[row]))
    assert sorted(rows["train"]) == list(range(6)) and rows["validation"] == [0, 1, 2]


def test_layouts_of_the_same_labels_give_the_same_files(entry, tmp_path):
    cards = []
    for number, layout in enumerate((lists, lists_of_boxes, boxes_of_lists)):
        write(tmp_path, layout)
        build_dataset("many", entry, tmp_path / str(number), 0)
        cards.append(load_card(tmp_path / str(number))["checksums"])
    assert cards[0] == cards[1] == cards[2]


@pytest.mark.parametrize("wrong", [[3], [-1], [0, 7]])
@pytest.mark.parametrize("layout", [lists, lists_of_boxes])
def test_labels_out_of_range_are_refused(entry, tmp_path, layout, wrong):
    write(tmp_path, layout, validation=[[0], wrong, [1]])
    with pytest.raises(ValueError, match=r"validation of someone/many has rows without a label from 0 to 2"):
        build_dataset("many", entry, tmp_path / "set", 0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": pa.array([0, 1, 2])}, "holds int64, not a list of labels"),
        ({"labels": pa.array([["ant"], [], ["bee"]])}, "holds lists of string, not of whole numbers"),
        ({"objects": pa.array([[{"bbox": 1.0}]] * 3)}, "has no category or label or category_id; it has bbox"),
        ({"tags": pa.array([[0], [1], [2]])}, "has no column labels or objects; it has image, tags"),
    ],
)
def test_columns_of_another_kind_are_refused(entry, tmp_path, columns, message):
    write(tmp_path, lists)
    features = {key: {"feature": CATEGORY, "_type": "List"} for key in columns}
    write_columns(tmp_path / "hub" / "data" / "val-00000-of-00001.parquet", "validation", columns, features)
    with pytest.raises(ValueError, match=message):
        build_dataset("many", entry, tmp_path / "set", 0)


def test_a_list_is_no_single_class(tmp_path, monkeypatch):
    monkeypatch.setitem(HUB_SETS, "one", HubSet(**{**vars(MANY), "task": "single"}))
    write(tmp_path, lists)
    entry = {"source": "hub", "collection": "one", "size": 32, "splits": SPLITS, "data_root": str(tmp_path / "hub")}
    with pytest.raises(ValueError, match=r"holds list<.*>, not one whole number an image"):
        build_dataset("one", entry, tmp_path / "set", 0)


def test_a_split_that_is_missing_is_named_with_both_its_names(entry, tmp_path):
    write(tmp_path, lists)
    (tmp_path / "hub" / "data" / "val-00000-of-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"no files val-\*\.parquet or validation-\*\.parquet: put"):
        build_dataset("many", entry, tmp_path / "set", 0)
