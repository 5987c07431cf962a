"""Derived tables: what several tables of attacks say together about one question.

A kind of table is one module: how its lines come from the records, which columns are shown, what its caption says
beyond its title and what follows from its numbers. Everything shown can be worked out from its CSV alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from wolfe.report import (
    detection_matrix,
    detection_pooled,
    detection_single,
    jacobian_rank,
    losses,
    losses_claims,
    one_step,
    softmax_predictors,
    transfer,
    variants,
)
from wolfe.report.grid import Column, read_csv, to_latex, to_markdown, write_csv, write_text
from wolfe.report.words import listed, sentence, stands_in

_TEXTS = (
    "table",
    "title",
    "dataset",
    "model",
    "encoding",
    "target_rule",
    "slug",
    "label",
    "attack",
    "difference",
    "base_slug",
    "base_label",
    "variant_slug",
    "variant_label",
    "set",
    "other",
    "other_encoding",
    "experiment",
    "detector",
    "trained_on",
)
"""Columns of derived tables that hold words, whatever they look like."""


@dataclass(frozen=True)
class Kind:
    """How tables of one kind are made.

    Attributes:
        lines: from the spec and the folder that holds what is summed up (`attacks`, `transfer` for tables of transfer,
            else all results) to the full table, one line for each of `places`.
        places: from the spec to (table, slug of the row, or attack for tables of transfer) of each line.
        columns: what readers see of a table.
        reading: how to read a table: the end of its caption.
        findings: what follows from a table, one paragraph each; the first one opens.
    """

    lines: Callable[[Mapping[str, Any], Path], pd.DataFrame]
    places: Callable[[Mapping[str, Any]], list[tuple[str, str]]]
    columns: Callable[[pd.DataFrame], list[Column]]
    reading: Callable[[pd.DataFrame], str]
    findings: Callable[[pd.DataFrame], list[str]]


KINDS = {
    name: Kind(module.lines, module.places, module.columns, module.reading, module.findings)
    for name, module in (
        ("one_step", one_step),
        ("jacobian_rank", jacobian_rank),
        ("variants", variants),
        ("transfer", transfer),
        ("losses", losses),
        ("losses_claims", losses_claims),
        ("detection_single", detection_single),
        ("detection_pooled", detection_pooled),
        ("detection_matrix", detection_matrix),
        ("softmax_predictors", softmax_predictors),
    )
}
_ROW = {"variants": "variant_slug", "transfer": "attack"}
"""The column that says which row a line is about, where it is not `slug`."""


def write_derived(spec: Mapping[str, Any], attacks: Path, out: Path) -> None:
    """Writes a derived table as `<out>.csv`, `<out>.md` and `<out>.tex`.

    Args:
        spec: the resolved table: name, title, kind, stands_in, and `parts` (tables with their JMA rows), `rows`
            (variants) or `transfers`, or `part` (losses), or `experiments`.
        attacks: the folder `attacks`, which holds `<model>/<rule>/<slug>`; for tables of transfer the folder
            `transfer`, which holds `<set of classifiers>`; for those of losses and experiments `results/<study>`.
        out: the files' common stem.

    Raises:
        FileNotFoundError: a row has not been run.
        ValueError: a file is damaged, or there is nothing to sum up.
    """
    kind = KINDS[spec["kind"]]
    if not kind.places(spec):
        raise ValueError(f"table {spec['name']!r} of kind {spec['kind']!r} has no rows to sum up")
    table = kind.lines(spec, Path(attacks))
    text, shown = derived_caption(spec, table), kind.columns(table)
    write_csv(out, table)
    write_text(out, ".md", to_markdown(table, shown, text, kind.findings(table)))
    write_text(out, ".tex", to_latex(table, shown, text, spec["name"]))


def read_derived(spec: Mapping[str, Any], path: Path) -> pd.DataFrame:
    """Reads the CSV of a derived table back.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is no such table, or one of another study.
    """
    table = read_csv(path, _TEXTS)
    row = _ROW.get(spec["kind"], "slug")
    missing = [name for name in ("table", row) if name not in table]
    if missing or list(zip(table["table"], table[row], strict=True)) != KINDS[spec["kind"]].places(spec):
        raise ValueError(f"{path} holds other rows than the study: make this table again")
    return table


def derived_caption(spec: Mapping[str, Any], table: pd.DataFrame) -> str:
    """A derived table's caption: what it is about, what stands in for what and how to read it."""
    counts = sorted({int(count) for count in table["images"]})
    images = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [
        sentence(str(spec["title"])),
        stands_in(str(spec.get("stands_in") or "")),
        f"Each row rests on {images} images{_described(spec)}.",
        KINDS[spec["kind"]].reading(table),
    ]
    return " ".join(part for part in parts if part)


def _described(spec: Mapping[str, Any]) -> str:
    """Where a reader finds what the images are."""
    if "part" in spec:
        return f" of the table {spec['part']['table']}, which describes its data, targets and budget"
    if "experiments" in spec:
        return f" of {listed([str(one['dataset']) for one in spec['experiments']])}"
    return " of the table named in it, which describes its data, targets and budget"
