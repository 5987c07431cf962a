"""Which files the stages read that come after the attacks: paths below `results/<study>`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wolfe.study.derived import rows_needed
from wolfe.study.experiments import part_folders

_MEASURED = ("records.parquet", "run.json")
_ATTACKED = (*_MEASURED, "adversarials.safetensors")
# Kinds of tables that look at what was observed at every step.
_FOLLOWED = ("jacobian_rank", "losses", "losses_claims")


def table_files(table: Mapping[str, Any]) -> list[str]:
    """The files that a resolved table sums up."""
    names = ["records.parquet", *(["trace.parquet"] if table["kind"] in _FOLLOWED else [])]
    found = [] if table["kind"] == "transfer" else _row_files(table, names)
    found += [f"transfer/{transfer['name']}/{file}" for transfer in table.get("transfers", []) for file in _MEASURED]
    found += [f"experiments/{one['name']}/{file}" for one in table.get("experiments", []) for file in _MEASURED]
    return found


def table_folder(table: Mapping[str, Any]) -> str:
    """The folder below the study's results in which a table's kind finds all that it sums up."""
    if table["kind"] == "attacks":
        return f"attacks/{table['model']}/{table['targets']}"
    return {"transfer": "transfer", "variants": "attacks", "one_step": "attacks", "jacobian_rank": "attacks"}.get(
        table["kind"], ""
    )


def _row_files(table: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Files of the runs of a table's rows, those of the same model and target rule together."""
    return [
        f"attacks/{model}/{targets}/{row['slug']}/{name}"
        for model, targets, row in rows_needed(table)
        for name in names
    ]


def experiment_files(experiment: Mapping[str, Any]) -> list[str]:
    """The files that a resolved experiment reads."""
    models = experiment.get("models", [])
    models = [*models, *(one["start"] for one in experiment.get("detectors", []) if "start" in one)]
    found = [f"models/{name}/{file}" for name in models for file in ("weights.safetensors", "classifier.json")]
    parts = [experiment["learn"], *experiment["tested"]] if experiment["kind"] == "detection" else []
    found += [f"{folder}/{file}" for part in parts for folder in part_folders(part) for file in _ATTACKED]
    return [*found, *([f"data/{experiment['dataset']}/card.json"] if "dataset" in experiment else [])]


def chart_files(figure: Mapping[str, Any]) -> list[str]:
    """The files that a resolved figure of losses or of an experiment is drawn from."""
    if "experiment" in figure:
        experiment = figure["experiment"]
        found = [f"experiments/{experiment['name']}/{file}" for file in _MEASURED]
        return [*found, *([f"data/{experiment['dataset']}/card.json"] if "dataset" in experiment else [])]
    part = figure["part"]
    files = (*_ATTACKED, "trace.parquet")
    found = [f"{folder}/{file}" for folder in part_folders(part) for file in files]
    return [*found, f"data/{part['dataset']}/card.json", f"models/{part['model']}/classifier.json"]
