"""The published numbers beside a row, found by the attack's name and its parameters as printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.reading.regular import regular_file

VALUES = ("asr", "basr", "mse", "ssim", "n_it", "time_s")
"""The published columns that stand beside ours. They stay text, as printed; `mse` is a mean square, `time_s` in
seconds."""


def read_published(path: Path) -> pd.DataFrame:
    """Reads a table of published numbers.

    Args:
        path: a CSV file with the columns `attack`, `params` and those of `VALUES`.

    Returns:
        The table, all text, empty where nothing was printed.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no regular file, does not parse or lacks columns.
    """
    try:
        table = pd.read_csv(regular_file(path), dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: the published numbers live in config/published") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no readable CSV file ({error})") from error
    missing = [column for column in ("attack", "params", *VALUES) if column not in table.columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
    return table


def published_columns(spec: Mapping[str, Any], path: Path | None) -> pd.DataFrame:
    """The published numbers for each row of a table.

    Args:
        spec: a resolved table; a row's `published` is `{"attack", "params"}` or nothing.
        path: the CSV file with the published numbers; may be missing when no row refers to it.

    Returns:
        One line a row of the table: `published_attack`, `published_params` and `published_<value>` for each of
        `VALUES`, all text and empty where nothing was published.

    Raises:
        ValueError: a row refers to numbers that are not in the file, or that are in it twice.
    """
    references = [row.get("published") for row in spec["rows"]]
    if path is None and any(references):
        slug = next(row["slug"] for row in spec["rows"] if row.get("published"))
        raise ValueError(f"row {slug!r} refers to published numbers, but the table names no published CSV file")
    table = read_published(path) if path is not None else pd.DataFrame()
    return pd.DataFrame([_line(reference, table, path) for reference in references])


def _line(reference: Mapping[str, str] | None, table: pd.DataFrame, path: Path | None) -> dict[str, str]:
    names = ("attack", "params", *VALUES)
    if not reference:
        return {f"published_{name}": "" for name in names}
    attack, params = _plain(reference["attack"]), _plain(reference["params"])
    found = table[(table["attack"].map(_plain) == attack) & (table["params"].map(_plain) == params)]
    if len(found) != 1:
        allowed = "; ".join(f"{line.attack} {line.params}" for line in table.itertuples())
        how_many = "holds no row" if found.empty else f"holds {len(found)} rows"
        raise ValueError(
            f"{path} {how_many} with attack {reference['attack']!r} and params {reference['params']!r}; "
            f"it has: {allowed}"
        )
    return {f"published_{name}": str(found.iloc[0][name]) for name in names}


def _plain(text: object) -> str:
    """Text without any white space: '(0.05,200)' and '(0.05, 200)' are the same printed parameters."""
    return "".join(str(text).split())
