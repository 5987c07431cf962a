"""The files of published sets: found, fetched and known, or missing, damaged and refused."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.published_files import NAMES, SPLITS, TINY, spec, write_parquet, write_tiny
from wolfe.data import build_dataset, load_card
from wolfe.data.hub_files import split_files
from wolfe.data.hub_sets import HUB_SETS, HubSet
from wolfe.data.hub_shards import spread
from wolfe.data.hub_table import check_count


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with a set of two splits, one of them in two files."""
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    return write_tiny(tmp_path / "hub")


def test_missing_options_and_files_are_named(root, tmp_path):
    with pytest.raises(ValueError, match="hub needs the option 'size'"):
        build_dataset("tiny", {"source": "hub", "collection": "tiny", "splits": SPLITS}, tmp_path / "set", 0)
    (root / "data" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"no files test-\*.parquet: put the parquet files of someone/tiny"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_incomplete_files_are_refused_unless_that_is_meant(root, tmp_path):
    (root / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"train of someone/tiny has 2 files like train-00000.*, 1 are there: fetch"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    with pytest.raises(ValueError, match="train has 7 images here, so none from number 8 on"):
        build_dataset("tiny", spec(root, {"partial": True}), tmp_path / "set", 0)
    splits = {**SPLITS, "train": "train[:4]", "validation": "train[4:]"}
    build_dataset("tiny", spec(root, {"partial": True, "splits": splits}), tmp_path / "set", 0)
    card = load_card(tmp_path / "set")
    assert card["counts"] == {"train": 4, "validation": 3, "test": 5} and "some of the published" in card["provenance"]
    train, test = card["revision"].split("; ")
    assert train.endswith(", 1 of 2 files") and "files" not in test.removeprefix("someone/tiny test: files")
    (root / "data" / "train-00000-of-00002.parquet").rename(root / "data" / "train-00000.parquet")
    with pytest.raises(ValueError, match="has 12 images, the files hold 7: fetch them all, or say partial: true"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 6}, "has 5 images, the files hold 6: these are no files of it"),
        ({"image": "photo"}, "no column image or img; it has photo, label"),
        ({"label": "fine_label"}, "no column label; it has image, fine_label"),
        ({"names": ("ant", "bee")}, "names 2 classes; someone/tiny has 3"),
        ({"names": ("ant", "bee", "bee")}, "names 2 classes; someone/tiny has 3"),
    ],
)
def test_files_of_something_else_are_refused(root, tmp_path, changes, message):
    write_parquet(root / "data" / "test-00000-of-00001.parquet", "test", **{"count": 5, **changes})
    with pytest.raises(ValueError, match=message):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_labels_names_and_pictures_are_checked(root, tmp_path):
    path = root / "data" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, 2, -1, 0])), path)
    with pytest.raises(ValueError, match="rows without a label from 0 to 2"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    pq.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(ValueError, match="does not say what its classes mean"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    pq.write_table(table.set_column(0, "image", pa.array([{"bytes": b"no picture", "path": None}] * 5)), path)
    with pytest.raises(ValueError, match="is no picture"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    assert not (tmp_path / "set" / "card.json").exists()


@pytest.mark.parametrize("keep", [40, 0])
def test_a_damaged_file_is_named(root, tmp_path, keep):
    path = root / "data" / "test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"test-00000-of-00001\.parquet is damaged or no parquet file"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_every_file_must_have_the_columns(root, tmp_path):
    write_parquet(root / "data" / "train-00001-of-00002.parquet", "train", 5, first=7, label="class")
    with pytest.raises(ValueError, match=r"train-00001-of-00002\.parquet has no column label; it has image, class"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_numbers_stand_for_names_that_a_set_need_not_have(root, tmp_path, monkeypatch):
    for path in root.rglob("*.parquet"):
        pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    with pytest.raises(ValueError, match="does not say what its classes mean"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)
    monkeypatch.setitem(HUB_SETS, "tiny", HubSet(**{**vars(TINY), "named": False}))
    build_dataset("tiny", spec(root), tmp_path / "set", 0)
    assert load_card(tmp_path / "set")["class_names"] == ["0", "1", "2"]


def test_names_in_the_files_are_used_even_if_a_set_need_not_have_them(root, tmp_path, monkeypatch):
    monkeypatch.setitem(HUB_SETS, "tiny", HubSet(**{**vars(TINY), "named": False}))
    path = root / "data" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    build_dataset("tiny", spec(root), tmp_path / "set", 0)
    assert load_card(tmp_path / "set")["class_names"] == list(NAMES)


def test_splits_that_name_their_classes_differently_are_refused(root, tmp_path):
    write_parquet(root / "data" / "test-00000-of-00001.parquet", "test", 5, names=("ant", "cat", "bee"))
    with pytest.raises(ValueError, match="splits of someone/tiny name their classes differently"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


@pytest.mark.parametrize("column", ["image", "label"])
def test_damage_inside_a_file_is_found(root, tmp_path, column):
    path = root / "data" / "test-00000-of-00001.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(number) for number in range(group.num_columns)]
    hit = next(chunk for chunk in chunks if chunk.path_in_schema.startswith(column))
    start = hit.dictionary_page_offset or hit.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + hit.total_compressed_size] = bytes(hit.total_compressed_size)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"of .*test-00000-of-00001\.parquet cannot be read"):
        build_dataset("tiny", spec(root), tmp_path / "set", 0)


def test_some_of_the_files_are_enough_if_that_is_meant(tmp_path, monkeypatch):
    monkeypatch.setitem(HUB_SETS, "tiny", TINY)
    for number in range(6):
        write_parquet(tmp_path / "hub" / f"train-{number}.parquet", "train", 2, first=2 * number)
    write_parquet(tmp_path / "hub" / "test-0.parquet", "test", 5)
    splits = {"train": "train[:3]", "validation": "train[3:]", "test": "test"}
    entry = {**spec(tmp_path / "hub"), "splits": splits, "files": 3}
    build_dataset("tiny", entry, tmp_path / "set", 0)
    card = load_card(tmp_path / "set")
    assert card["counts"] == {"train": 3, "validation": 3, "test": 5} and "some of the published" in card["provenance"]
    train, _ = split_files(TINY, "train", str(tmp_path / "hub"), "main", 3)
    assert [path.name for path in train] == ["train-0.parquet", "train-2.parquet", "train-4.parquet"]
    with pytest.raises(ValueError, match="files must be at least 1, of a set of parquet files, got 0 of Tiny"):
        build_dataset("tiny", {**entry, "files": 0}, tmp_path / "set", 0)
    with pytest.raises(ValueError, match="got 2 of PASCAL VOC2012"):
        splits = {"train": "train[:3]", "validation": "train[3:]", "test": "validation"}
        build_dataset("voc", {**entry, "collection": "voc2012", "splits": splits, "files": 2}, tmp_path / "set", 0)


@given(there=st.integers(0, 40), most=st.integers(1, 50))
def test_files_are_chosen_at_even_distances(there, most):
    chosen = spread(range(there), most)
    assert len(chosen) == min(there, most)
    gaps = {after - before for before, after in zip(chosen, [*chosen, there][1:], strict=True)}
    assert chosen[:1] == (0,)[:there] and (not gaps or max(gaps) - min(gaps) <= 1)


@pytest.mark.parametrize(("rows", "right"), [(12, True), (20, True), (11, False), (13, False), (21, False)])
def test_other_editions_of_a_set_are_whole_too(rows, right):
    known = HubSet(**{**vars(TINY), "editions": (("train", 20),)})
    if right:
        check_count(known, "train", rows, partial=False)
    else:
        with pytest.raises(ValueError, match=f"train of someone/tiny has 12 or 20 images, the files hold {rows}"):
            check_count(known, "train", rows, partial=False)
    if rows <= 20:
        check_count(known, "train", rows, partial=True)


@pytest.mark.parametrize(
    "twin",
    [
        "copy/train-00000-of-00002.parquet",
        "data/train-00001-of-00002-7af5414a3b178949.parquet",
        "data/train-00002-of-00003.parquet",
        "data/train-0.parquet",
        "another.parquet/train-00000-of-00001.parquet",
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_files_of_several_copies_are_refused(root, tmp_path, twin, partial):
    write_parquet(root / twin, "train", 5, first=7)
    with pytest.raises(ValueError, match=r"train-.* and .*train-.* are of several copies of Tiny, or of several sets"):
        build_dataset("tiny", spec(root, {"partial": partial}), tmp_path / "set", 0)


def test_a_folder_called_like_a_file_is_none(root, tmp_path):
    build_dataset("tiny", spec(root), tmp_path / "set", 0)
    (root / "train-00002-of-00002.parquet").mkdir()
    build_dataset("tiny", spec(root), tmp_path / "again", 0)
    assert load_card(tmp_path / "again") == load_card(tmp_path / "set")


@pytest.mark.parametrize("partial", [False, True])
def test_classes_of_another_set_are_refused(root, tmp_path, monkeypatch, partial):
    monkeypatch.setitem(HUB_SETS, "tiny", HubSet(**{**vars(TINY), "class_names": ("Ant", "b_ee", "cow")}))
    with pytest.raises(ValueError, match=r"train-00000.* calls class 2 'cat', Tiny 'cow': these are no files of it"):
        build_dataset("tiny", spec(root, {"partial": partial}), tmp_path / "set", 0)
    monkeypatch.setitem(HUB_SETS, "tiny", HubSet(**{**vars(TINY), "class_names": ("Ant", "b ee", "cat")}))
    build_dataset("tiny", spec(root, {"partial": partial}), tmp_path / "set", 0)
    assert load_card(tmp_path / "set")["class_names"] == list(NAMES)


def test_fixed_names_are_as_many_as_the_classes():
    known = {name: entry.class_names for name, entry in HUB_SETS.items() if entry.class_names}
    assert set(known) == {"mnist", "cifar10", "coco", "voc2007", "voc2012"}
    assert all(len(set(names)) == len(names) == HUB_SETS[name].classes for name, names in known.items())
