"""The graph of the workflow's rules for a study, in the DOT language, as `snakemake --rulegraph dot` draws it.

It is derived from the study and not asked from Snakemake, because the report is made while Snakemake runs and a
second Snakemake would have to be given the same options again. A test compares the two graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wolfe.study.plan import Batch, Study, candidate_slugs
from wolfe.study.transfers import transfer_runs


def rule_graph(study: Study) -> str:
    """The rules that a study's report needs and how they depend on each other.

    Args:
        study: the resolved study.

    Returns:
        A directed graph in DOT; an edge runs from a rule to the rule that reads its files.
    """
    edges = sorted(_edges(study))
    nodes = {name: index for index, name in enumerate(sorted({name for edge in edges for name in edge}))}
    lines = ["digraph rules {", '    graph [rankdir="TB"];', '    node [shape="box", style="rounded"];']
    lines += [f'    {index} [label="{name}"];' for name, index in nodes.items()]
    lines += [f"    {nodes[tail]} -> {nodes[head]};" for tail, head in edges]
    return "\n".join([*lines, "}"]) + "\n"


def _edges(study: Study) -> set[tuple[str, str]]:
    edges = {("dataset", "train"), ("train", "targets"), ("dataset", "targets"), ("table", "report")}
    edges |= {
        ("rulegraph", "report"),
        ("resolved_study", "report"),
        ("train", "report"),
        ("dataset", "report"),
        ("report", "all"),
    }
    edges |= {("table", "all")}
    for batch in study.batches:
        job = f"attack_{batch.name}"
        edges |= {(tail, job) for tail in ("dataset", "train", "targets")} | {(job, "table")}
        if any(shows(figure, batch) for figure in study.figures.values()):
            edges.add((job, "figure"))
    kinds = {figure["kind"] for figure in study.figures.values()}
    if "examples" in kinds:
        edges |= {("dataset", "figure"), ("train", "figure"), ("figure", "report"), ("figure", "all")}
    if "geometry" in kinds:
        edges |= {(tail, "geometry") for tail in ("dataset", "train", "targets")}
        edges |= {("geometry", "geometry_figure"), ("geometry", "report"), ("geometry_figure", "report")}
        edges.add(("geometry_figure", "all"))
    if "transfer" in kinds:
        edges |= {("table", "transfer_figure"), ("transfer_figure", "report"), ("transfer_figure", "all")}
    return edges | _transfer_edges(study)


def _transfer_edges(study: Study) -> set[tuple[str, str]]:
    """What asking other classifiers reads and who reads that, for the transfers that a table shows."""
    shown = [transfer for table in study.tables.values() for transfer in table.get("transfers", [])]
    runs = {run for transfer in shown for run in transfer_runs(transfer)}
    edges = {
        (f"attack_{batch.name}", "transfer")
        for batch in study.batches
        if any((batch.model, batch.targets, row["slug"]) in runs for row in batch.rows)
    }
    return edges | {("dataset", "transfer"), ("train", "transfer"), ("transfer", "table")} if shown else set()


def shows(figure: Mapping[str, Any], batch: Batch) -> bool:
    """Whether a resolved figure shows rows of a batch."""
    for part in figure.get("parts", []):
        shown = candidate_slugs(part)
        if part["table"]["name"] in batch.tables and any(row["slug"] in shown for row in batch.rows):
            return True
    return False
