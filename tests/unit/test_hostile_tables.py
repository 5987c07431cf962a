"""Parquet files from strangers: they take no more memory than they may, and hold what records hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wolfe.experiments.targets import read_targets
from wolfe.files import sha256
from wolfe.reading import tables
from wolfe.reading.tables import MOST_COLUMNS, MOST_ROWS, read_table
from wolfe.report.records import read_trace

from ..conftest import rewrite_run


def test_a_table_of_too_many_rows_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    nothing = pa.nulls(MOST_ROWS // 50)
    with pq.ParquetWriter(path, pa.schema([("image_id", pa.null())])) as writer:
        for _ in range(51):
            writer.write_table(pa.table({"image_id": nothing}))
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=f"bomb.parquet .*rows are more than {MOST_ROWS}"):
        read_table(path)


def test_a_text_that_would_stand_in_every_row_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    words = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"image_id": words}), path, store_schema=False)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"bomb\.parquet .*1000000 bytes in each of 1000000 rows"):
        read_table(path)


def test_columns_that_take_more_together_than_their_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    zeros = pa.array(np.zeros(1_000_000, np.int64))
    table = pa.table({f"c{number}": zeros for number in range(40)})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(14):
            writer.write_table(table)
    assert path.stat().st_size < 4_000_000
    with pytest.raises(ValueError, match=r"bomb\.parquet .*14000000 rows of 320 bytes are more than 4294967296"):
        read_table(path)
    assert len(read_table(path, ["c3"])) == 14_000_000


def test_texts_and_lists_of_all_columns_are_counted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "it.parquet"
    pq.write_table(pa.table({"a": [[1, 2, 3]], "b": [[4, 5]], "c": ["abc"], "d": ["de"]}), path)
    monkeypatch.setattr(tables, "MOST_VALUES", 5)
    monkeypatch.setattr(tables, "LARGEST_TEXT", 5)
    monkeypatch.setattr(tables, "LARGEST_TABLE", 2 * 128 + 2 * 16)
    assert read_table(path)["b"][0].tolist() == [4, 5]
    for bound, message in (
        ("MOST_VALUES", "lists up to column b hold more than 4 values"),
        ("LARGEST_TEXT", "column d would have 2 bytes in each of 1 rows"),
        ("LARGEST_TABLE", "1 rows of 288 bytes"),
    ):
        with monkeypatch.context() as lower:
            lower.setattr(tables, bound, getattr(tables, bound) - 1)
            with pytest.raises(ValueError, match=message):
                read_table(path)


def test_a_table_of_too_many_columns_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    for columns in (MOST_COLUMNS, MOST_COLUMNS + 1):
        pq.write_table(pa.table({f"c{number}": [0] for number in range(columns)}), path)
        if columns == MOST_COLUMNS:
            assert read_table(path).shape == (1, MOST_COLUMNS)
    with pytest.raises(ValueError, match=rf"it\.parquet .*{MOST_COLUMNS + 1} columns are more than"):
        read_table(path)


def test_a_column_that_the_file_calls_its_index_is_checked_too(tmp_path: Path) -> None:
    """Pandas reads it, whichever columns it is asked for."""
    said = {"field_name": "hidden", "name": "hidden", "pandas_type": "object", "numpy_type": "object", "metadata": None}
    index = {"index_columns": ["hidden"], "columns": [said], "column_indexes": []}
    content = pa.table({"image_id": ["a"], "hidden": [["x"]]}).replace_schema_metadata({"pandas": json.dumps(index)})
    pq.write_table(content, tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet .*column hidden holds list"):
        read_table(tmp_path / "it.parquet", ["image_id"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{"a": 1}]),
        pa.array([[["x"]]]),
        pa.array([b"\xff"]),
        pa.array([["x"]]),
        pa.array([0], pa.timestamp("s")),
    ],
)
def test_a_column_of_another_kind_is_refused(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"target": column}), tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet .*column target holds"):
        read_table(tmp_path / "it.parquet")


def test_a_trace_does_not_become_the_square_of_its_lines(tmp_path: Path) -> None:
    lines = {
        "image_id": ["a"] * 1000,
        "step": range(1000),
        "name": [f"q{n}" for n in range(1000)],
        "value": [0.5] * 1000,
    }
    pd.DataFrame(lines).to_parquet(tmp_path / "trace.parquet")
    rewrite_run(tmp_path, {"outputs": {"trace.parquet": sha256(tmp_path / "trace.parquet")}})
    with pytest.raises(ValueError, match="more than 100 quantities"):
        read_trace(tmp_path)


@pytest.mark.parametrize("labels", [[None, None], ["x", "y"], [[0, 1], [0]], [float("nan"), 1.0]])
def test_targets_are_whole_numbers(tmp_path: Path, labels: list[Any]) -> None:
    pd.DataFrame({"image_id": ["a", "b"], "true_label": labels, "target": labels}).to_parquet(tmp_path / "it.parquet")
    with pytest.raises(ValueError, match=r"it\.parquet"):
        read_targets(tmp_path / "it.parquet")
