"""The figures of a study, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wolfe.study.errors import StudyError
from wolfe.study.experiments import SHOWN, table_part


def resolved_figure(
    name: str, figure: Mapping[str, Any], tables: Mapping[str, Any], experiments: Mapping[str, Any]
) -> dict[str, Any]:
    """A figure with all that it is drawn from.

    Args:
        name: its name in the study.
        figure: its entry there.
        tables: name to resolved table.
        experiments: name to resolved experiment.

    Raises:
        StudyError: it asks for images that not every row shown has.
    """
    common = {"name": name, "title": figure["title"], "kind": figure.get("kind", "examples")}
    if common["kind"] == "geometry":
        return {**common, "table": tables[figure["table"]], "labels": figure.get("labels")}
    if common["kind"] == "transfer":
        return {**common, "table": tables[figure["table"]]}
    options = {key: value for key, value in figure.items() if key not in (*common, "table", "experiment")}
    if common["kind"] in SHOWN:
        return {**common, **options, "experiment": experiments[figure["experiment"]]}
    if common["kind"] == "losses":
        return {**common, **options, "part": table_part(tables[figure["table"]])}
    return {**common, "parts": [_part(f"figures.{name}", part, tables) for part in figure.get("parts", [figure])]}


def _part(place: str, part: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    table = tables[part["table"]]
    slugs = {row["label"]: row["slug"] for row in table["rows"]}
    shown = [row for row in table["rows"] if not part.get("rows") or row["label"] in part["rows"]]
    attacked = min(row["images"] or table["images"] for row in shown)
    if part.get("images", 1) > attacked:
        raise StudyError(
            f"{place}.images: must be at most {attacked} (the images that every row shown attacks), "
            f"not {part['images']}"
        )
    if part.get("image") and attacked < table["images"]:
        raise StudyError(
            f"{place}.image: rows of {table['name']} attack only their first images; name rows that attack all, "
            "or no image"
        )
    return {
        "table": table,
        "rows": [slugs[label] for label in part.get("rows", [])] or None,
        "image": part.get("image"),
        "images": part.get("images", 1),
    }


def by_name(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved figure in which tables are named, not repeated."""
    if figure["kind"] in ("geometry", "transfer"):
        return {**figure, "table": figure["table"]["name"]}
    if "parts" not in figure:
        return dict(figure)
    return {**figure, "parts": [{**part, "table": part["table"]["name"]} for part in figure["parts"]]}


def candidate_slugs(part: Mapping[str, Any]) -> list[str]:
    """The rows that a part of a resolved figure may show: those it names, else all of its table."""
    return part["rows"] or [row["slug"] for row in part["table"]["rows"]]
