"""The records of a table's rows, read back and verified.

One row of a table is one folder `attacks/<model>/<rule>/<slug>/` with `records.parquet`, `adversarials.safetensors`,
`run.json` and, for JMA, `trace.parquet`; nothing here believes a file whose checksum differs from that in `run.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from wolfe.files import checked, read_json
from wolfe.provenance import is_signed
from wolfe.reading.tables import read_table

COLUMNS = (
    "image_id",
    "true_label",
    "target",
    "prediction",
    "status",
    "success",
    "success_8bit",
    "bits_asked",
    "bits_reached",
    "bits_equal",
    "bits_total",
    "mse",
    "rmse",
    "ssim",
    "l2",
    "iterations",
    "forwards",
    "vjps",
    "jvps",
    "seconds",
    "batch_size",
)
"""What a table or a figure needs of every record."""

_NO_NUMBERS = ("image_id", "true_label", "target", "prediction", "status")

TRACE = "trace.parquet"
"""What JMA's runs note of every Jacobian: one line for each image, step and quantity."""
TRACE_COLUMNS = ("image_id", "step", "name", "value")
# Each becomes a column; of as many as there are lines the table would be as large as their square.
_MOST_QUANTITIES = 100

STATUSES = ("found", "exhausted", "infeasible", "not_finite", "timed_out", "already_there")
"""How an attack on one image can end."""


@dataclass(frozen=True)
class RowRecords:
    """The result of one row of a table.

    Attributes:
        slug: the row's folder name.
        folder: where its files are.
        records: one line an image, with at least `COLUMNS`.
        run: the contents of `run.json`.
    """

    slug: str
    folder: Path
    records: pd.DataFrame
    run: Mapping[str, Any]


def attacks_of(table: Mapping[str, Any], results: Path) -> Path:
    """The folder of a table's attack rows."""
    return Path(results) / "attacks" / table["model"] / table["targets"]


def read_row(folder: Path) -> RowRecords:
    """Reads and verifies the files of one attack row.

    Args:
        folder: `attacks/<model>/<rule>/<slug>`.

    Returns:
        Its records and its run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated, changed, empty or lacks columns; the message names it.
    """
    run = verified_run(Path(folder), ("records.parquet", "adversarials.safetensors"), "run this attack row")
    return RowRecords(Path(folder).name, Path(folder), read_records(Path(folder) / "records.parquet"), run)


def read_trace(folder: Path) -> pd.DataFrame:
    """Reads and verifies the trace of one attack row.

    Args:
        folder: `attacks/<model>/<rule>/<slug>` of a JMA row.

    Returns:
        One line for each image and step, in this order, with the columns `image_id`, `step` and one for each quantity.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is truncated, changed or no trace; the message names it.
    """
    path = Path(folder) / TRACE
    verified_run(Path(folder), (TRACE,), "run this attack row")
    try:
        trace = read_table(path, TRACE_COLUMNS)
        if trace["name"].nunique() > _MOST_QUANTITIES:
            raise ValueError(f"it names more than {_MOST_QUANTITIES} quantities")
        wide = trace.set_index(["image_id", "step", "name"])["value"].unstack()  # noqa: PD010
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no readable trace ({error}): delete it and run again") from error
    return wide.sort_index().reset_index()


def verified_run(folder: Path, names: Iterable[str], remedy: str) -> Mapping[str, Any]:
    """The contents of `run.json`, once the named files are known to be those that were written.

    Args:
        folder: what a stage has written: `run.json` with the checksums of the other files, and these.
        names: the files that are to be read.
        remedy: what makes them, e.g. "run this attack row"; messages add "first" or "again".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged, or nothing is known of it; the message names it.
    """
    run_file = folder / "run.json"
    if not run_file.is_file():
        raise FileNotFoundError(f"{run_file} is missing: {remedy} first")
    run: Any = read_json(run_file)
    # Tables tell its device and seconds: what stands there must be what was written.
    if isinstance(run, dict) and not is_signed(run):
        raise ValueError(f"{run_file} is damaged (its checksum differs from the recorded one): {remedy} again")
    outputs = run.get("outputs") if isinstance(run, dict) else None
    for name in names:
        if not isinstance(outputs, dict) or name not in outputs:
            raise ValueError(f"{run_file} holds no checksum of {name}: {remedy} again")
        checked(folder / name, outputs[name])
    return dict(run)


def read_records(path: Path) -> pd.DataFrame:
    """Reads a records file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is not parquet, is empty, lacks columns of `COLUMNS` or holds an unknown status.
    """
    try:
        records = read_table(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: run this attack row first") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable parquet file ({error}): delete it and run again") from error
    missing = [column for column in COLUMNS if column not in records.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
    if records.empty:
        raise ValueError(f"{path} holds no image")
    words = [column for column in COLUMNS if column not in _NO_NUMBERS and not is_numeric_dtype(records[column])]
    if words:
        raise ValueError(f"{path} holds no numbers in the columns {', '.join(words)}")
    unknown = sorted(set(records["status"].astype(str)) - set(STATUSES))
    if unknown:
        raise ValueError(f"{path} holds the status {unknown[0]!r}; known are {', '.join(STATUSES)}")
    return records


def read_rows(spec: Mapping[str, Any], attacks: Path) -> dict[str, RowRecords]:
    """Reads every row of a table and makes sure that they are about the same images and targets.

    Args:
        spec: a resolved table (`rows` with `slug` each).
        attacks: the folder that holds one folder a slug.

    Returns:
        Slug to result, in the order of the table.

    Raises:
        FileNotFoundError: a row has not been run.
        ValueError: a file is damaged, the table has no rows, two rows differ in images or targets, or one that is to
            attack only some of the images (`images`) has others.
    """
    results = {row["slug"]: read_row(Path(attacks) / row["slug"]) for row in spec["rows"]}
    if not results:
        raise ValueError(f"table {spec.get('name')!r} has no rows: name at least one attack")
    images = {row["slug"]: row.get("images") for row in spec["rows"]}
    first = max(results.values(), key=lambda result: len(result.records))
    plan = list(_plan(first.records).items())
    for slug, other in results.items():
        if list(_plan(other.records).items()) != plan[: images[slug]]:
            raise ValueError(
                f"{other.folder / 'records.parquet'} is not about the same images and targets as "
                f"{first.folder / 'records.parquet'}: rows of one table must share them, run them again"
            )
    return results


def label_indices(label: Any) -> tuple[int, ...]:
    """A label as the indices of the classes that are on: one for a class, any number for a 0/1 vector."""
    if np.ndim(label) == 0:
        return (int(label),)
    return tuple(int(index) for index in np.flatnonzero(np.asarray(label)))


def _plan(records: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    return {
        str(image_id): label_indices(target)
        for image_id, target in zip(records["image_id"], records["target"], strict=True)
    }
