"""The tables and figures of the page, ready for its template, and its table of contents."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wolfe.files import read_json
from wolfe.report.charts import CHARTS
from wolfe.report.derived import KINDS, derived_caption, read_derived
from wolfe.report.examples import examples_caption, select_parts
from wolfe.report.findings import findings
from wolfe.report.geometry import geometry_caption, read_geometry
from wolfe.report.grid import Column, groups_of, rows_of
from wolfe.report.records import RowRecords
from wolfe.report.tables import columns, read_table
from wolfe.report.transfer_map import read_transfer_table, transfer_caption
from wolfe.report.words import caption, remark, sentence, table_name


def is_derived(spec: Mapping[str, Any]) -> bool:
    """Whether a table sums up others, and has no attack rows of its own."""
    return spec.get("kind", "attacks") != "attacks"


def table_article(spec: Mapping[str, Any], results: Path, rows: Mapping[str, RowRecords]) -> dict[str, Any]:
    """A table for the template.

    Args:
        spec: the resolved table, of any kind.
        results: `results/<study>`.
        rows: slug to records, for a table of attacks.

    Raises:
        FileNotFoundError: the table has not been made.
        ValueError: it is damaged or of another study.
    """
    path = results / "tables" / f"{spec['name']}.csv"
    content = _derived(spec, path) if is_derived(spec) else _attacks(spec, path, rows)
    shown: list[Column] = content.pop("columns")
    starts = _starts(shown)
    says: list[str] = content.pop("says")
    return content | {
        "name": spec["name"],
        "label": table_name(spec["name"]),
        "title": spec["title"],
        "derived": is_derived(spec),
        "caption": content["caption"].removeprefix(f"{sentence(str(spec['title']))} "),
        "groups": groups_of(shown),
        "headers": [(column.header, start, column.text) for column, start in zip(shown, starts, strict=True)],
        "opening": says[0],
        "findings": [paragraph.partition(": ") for paragraph in says[1:]],
        "rows": [
            {key: value for key, value in row.items() if key != "line"}
            | {
                "cells": [
                    (column.show(row["line"]), start, column.text) for column, start in zip(shown, starts, strict=True)
                ]
            }
            for row in content["rows"]
        ],
    }


def _attacks(spec: Mapping[str, Any], path: Path, rows: Mapping[str, RowRecords]) -> dict[str, Any]:
    table = read_table(path)
    if list(table["slug"]) != [row["slug"] for row in spec["rows"]]:
        raise ValueError(f"{path} holds other rows than the study: make this table again")
    return {
        "columns": columns(table),
        "caption": caption(spec, table),
        "says": findings(table, rows),
        "first": "Attack",
        "rows": [
            {
                "label": line["label"],
                "link": "",
                "cut": line["budget_cut"],
                "ours": line["origin"] == "ours",
                "remark": remark(line, marked=True),
                "line": line,
            }
            for line in rows_of(table)
        ],
    }


def _derived(spec: Mapping[str, Any], path: Path) -> dict[str, Any]:
    table, kind = read_derived(spec, path), KINDS[spec["kind"]]
    first, *rest = kind.columns(table)
    return {
        "columns": rest,
        "caption": derived_caption(spec, table),
        "says": kind.findings(table),
        "first": first.header,
        "rows": [
            {
                "label": first.show(line),
                "link": f"#table-{line['table']}",
                "cut": False,
                "ours": False,
                "remark": "",
                "line": line,
            }
            for line in rows_of(table)
        ],
    }


def _starts(shown: Sequence[Column]) -> list[bool]:
    """Whether each column is the first of its group."""
    return [number == 0 or column.group != shown[number - 1].group for number, column in enumerate(shown)]


def figure_article(figure: Mapping[str, Any], tables: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """A figure for the template, its picture inside.

    Args:
        figure: the figure; its tables by name or resolved.
        tables: name to resolved table.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: the figure, or what its caption speaks of, has not been made.
        ValueError: a file is damaged.
    """
    path = results / "figures" / f"{figure['name']}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: make this figure first")
    kind = figure.get("kind", "examples")
    text = CHARTS[kind].caption(figure, results) if kind in CHARTS else _TEXTS[kind](figure, tables, results)
    return {
        "name": figure["name"],
        "label": table_name(figure["name"], "Figure"),
        "title": figure["title"],
        "caption": text.removeprefix(f"{sentence(str(figure['title']))} "),
        "source": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode(),
    }


def _geometry_text(figure: Mapping[str, Any], tables: Mapping[str, Any], results: Path) -> str:
    measured = read_geometry(results / "geometry" / f"{figure['name']}.json")
    return geometry_caption(_with_table(figure, tables), measured)


def _examples_text(figure: Mapping[str, Any], tables: Mapping[str, Any], results: Path) -> str:
    parts = [_with_table(part, tables) for part in figure["parts"]]
    shown = select_parts(parts, results)
    cards = [read_json(results / "data" / part["table"]["dataset"] / "card.json") for part in parts]
    return examples_caption({**figure, "parts": parts}, shown, [card["class_names"] for card in cards])


def _transfer_text(figure: Mapping[str, Any], tables: Mapping[str, Any], results: Path) -> str:
    figure = _with_table(figure, tables)
    return transfer_caption(figure, read_transfer_table(figure, results))


_TEXTS = {"geometry": _geometry_text, "examples": _examples_text, "transfer": _transfer_text}


def _with_table(entry: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose table is the resolved one, by whatever means it named it."""
    table = entry["table"]
    return {**entry, "table": tables[table] if isinstance(table, str) else table}


def grouped(articles: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tables in groups: 10a, 10b and 10c under 'Table 10', any other alone.

    Args:
        articles: tables in their order, each with `label` ('Table 10a').

    Returns:
        `label` of the group, empty for a table alone, and its `tables`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for article in articles:
        name = str(article["label"])
        parent = name[:-1] if name.startswith("Table ") and name[-1].isalpha() else name
        groups.setdefault(parent, []).append(article)
    return [
        {"label": parent if len(members) > 1 else "", "anchor": parent.lower().replace(" ", "-"), "tables": members}
        for parent, members in groups.items()
    ]
