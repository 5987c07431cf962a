"""The graph of the workflow's rules for a study, in the DOT language, as `snakemake --rulegraph dot` draws it.

It is derived from the study and not asked from Snakemake, because the report is made while Snakemake runs and a
second Snakemake would have to be given the same options again. A test compares the two graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wolfe.study.batches import Batch
from wolfe.study.experiments import CHARTS
from wolfe.study.figures import candidate_slugs
from wolfe.study.needs import chart_files, experiment_files
from wolfe.study.parts import part_count
from wolfe.study.plan import Study
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
        if part_count(study, batch) > 1:
            edges |= {(tail, "attack_part") for tail in ("dataset", "train", "targets")} | {("attack_part", job)}
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
    return edges | _transfer_edges(study) | _chart_edges(study)


def _chart_edges(study: Study) -> set[tuple[str, str]]:
    """What experiments and charts read, and who reads the experiments that a table or a chart shows."""
    edges: set[tuple[str, str]] = set()
    charts = [figure for figure in study.figures.values() if figure["kind"] in CHARTS]
    for figure in charts:
        edges |= {(rule, "chart") for rule in _makers(study, chart_files(figure))}
        edges |= {("chart", "report"), ("chart", "all")}
    shown = [one for table in study.tables.values() for one in table.get("experiments", [])]
    edges |= {("experiment", "table")} if shown else set()
    for one in [*shown, *(figure["experiment"] for figure in charts if "experiment" in figure)]:
        edges |= {(rule, "experiment") for rule in _makers(study, experiment_files(one))}
    return edges


def _makers(study: Study, files: Iterable[str]) -> set[str]:
    """The rules that make some files of the results."""
    stages = {"models": "train", "data": "dataset", "transfer": "transfer", "experiments": "experiment"}
    jobs = {
        f"attacks/{batch.model}/{batch.targets}/{row['slug']}": f"attack_{batch.name}"
        for batch in study.batches
        for row in batch.rows
    }
    return {stages.get(name.split("/")[0]) or jobs[name.rpartition("/")[0]] for name in files}


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
