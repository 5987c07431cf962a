"""Which files the stages read that come after the attacks: paths below `results/<study>`.

Functions that end in `_files` say what must be there before a stage begins, those that end in `_inputs` what its
results hang on: not the run files, which differ from run to run. What a spec lacks, its stage refuses; here it names
no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
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


def example_files(figure: Mapping[str, Any]) -> list[str]:
    """The files that a resolved figure of attacked images is drawn from."""
    found = []
    for part in figure["parts"]:
        table = part["table"]
        slugs = part["rows"] or [row["slug"] for row in table["rows"]]
        folders = [f"attacks/{table['model']}/{table['targets']}/{slug}" for slug in slugs]
        found += [f"{folder}/{file}" for folder in folders for file in _ATTACKED]
        found += [f"models/{table['model']}/classifier.json", f"data/{table['dataset']}/card.json"]
    return list(dict.fromkeys(found))


def _map_files(figure: Mapping[str, Any]) -> list[str]:
    return [f"tables/{figure['table']['name']}.csv"]


def _report_files(study: Mapping[str, Any]) -> list[str]:
    found = [f"tables/{table['name']}.csv" for table in study["tables"]]
    found += [f"figures/{figure['name']}.png" for figure in study["figures"]]
    found += [f"models/{name}/metrics.json" for name in study["models"]]
    return found + sorted({f"data/{entry['dataset']}/card.json" for entry in study["models"].values()})


def table_inputs(table: Mapping[str, Any], attacks: Path, published: Path | None) -> list[Path]:
    """What a table hangs on, from what `wolfe table` is given."""
    table = {"kind": "attacks", **table}
    above = _named(lambda entry: ["x", *PurePosixPath(table_folder(entry)).parts], table)
    results = Path(attacks).joinpath(*[".."] * (len(above) - 1))
    return [*_below(results, _named(table_files, table)), *([Path(published)] if published else [])]


def figure_inputs(figure: Mapping[str, Any], results: Path | None, geometry: Path | None) -> list[Path]:
    """What a figure hangs on, from what `wolfe figure` is given."""
    if results is None:
        return [Path(geometry)] if geometry else []
    files = {"examples": example_files, "transfer": _map_files}.get(figure.get("kind", "examples"), chart_files)
    return _below(results, _named(files, figure))


def experiment_inputs(experiment: Mapping[str, Any], results: Path) -> list[Path]:
    """What an experiment hangs on."""
    return _below(results, _named(experiment_files, experiment))


def report_inputs(study: Mapping[str, Any], results: Path, rulegraph: Path) -> list[Path]:
    """What the report hangs on, from what `wolfe report` is given."""
    return [*_below(results, _named(_report_files, study)), Path(rulegraph)]


def _named(files: Callable[[Mapping[str, Any]], list[str]], entry: Mapping[str, Any]) -> list[str]:
    try:
        return files(entry)
    except (KeyError, TypeError):
        return []


def _below(results: Path, names: Iterable[str]) -> list[Path]:
    return [Path(results) / name for name in names if not name.endswith("run.json")]
