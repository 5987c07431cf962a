"""The parts of a derived table: tables of attacks, of which it looks at some rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wolfe.report.grid import Column
from wolfe.report.summary import row_label
from wolfe.report.words import encoding_name, table_name, target_rule


def rows_of_parts(spec: Mapping[str, Any], attacks: Path) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], Path]]:
    """What is to be said of every row of every part.

    Args:
        spec: a derived table; each of its `parts` is a table with `model`, `dataset`, `targets`, `encoding`, `rows`.
        attacks: the folder `attacks`.

    Yields:
        The columns that name a row, the row, and the folder of its run.
    """
    for part in spec["parts"]:
        for row in part["rows"]:
            named = {
                "table": part["table"],
                "title": part["title"],
                "dataset": part["dataset"],
                "model": part["model"],
                "encoding": part["encoding"],
                "target_rule": target_rule(part),
                "slug": row["slug"],
                "label": row_label(row),
                "budget_cut": bool(row["cut"]),
                "published": row["origin"] == "paper",
                # 0 stands for the attack's default.
                "max_iterations": row["parameters"].get("max_iterations", 0),
            }
            yield named, row, Path(attacks) / part["model"] / part["targets"] / row["slug"]


def places(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table and slug of every line."""
    return [(part["table"], row["slug"]) for part in spec["parts"] for row in part["rows"]]


def naming_columns() -> list[Column]:
    """The columns that say which row a line is about."""
    return [
        Column("", "Table", lambda line: table_name(line["table"]), text=True),
        Column("", "Data set, model", lambda line: f"{line['dataset']}, {line['model']}", text=True),
        Column("", "Encoding", lambda line: encoding_name(line["encoding"]), text=True),
        Column("", "Target", lambda line: line["target_rule"], text=True),
        Column("", "Row", lambda line: line["label"] + (" (budget cut)" if line["budget_cut"] else ""), text=True),
    ]
