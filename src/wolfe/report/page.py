"""The report: a study on one self-contained HTML page, made from its result files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from wolfe.files import atomic_path, checked, read_json
from wolfe.provenance import begin_run, beside, checksums
from wolfe.report.articles import figure_article, grouped, is_derived, table_article
from wolfe.report.records import RowRecords, attacks_of, read_row, read_rows
from wolfe.report.rulegraph import draw_rulegraph
from wolfe.report.variants import folders
from wolfe.report.words import duration, listed
from wolfe.study.needs import report_inputs

TEMPLATE = "report.html.jinja"
_NAMES = ("name", "architecture")
_SPLITS = ("train", "validation", "test")


def write_report(spec: Mapping[str, Any], results: Path, rulegraph: Path, out: Path) -> None:
    """Writes the report; pictures, style and graph are inside it, so it opens from the disk and can be sent on.

    Args:
        spec: study, title, models (name to entry), tables (resolved), figures (their tables by name or resolved).
        results: `results/<study>`, with tables, figures, geometry, models, data and attacks.
        rulegraph: the graph of the rules in the DOT language.
        out: the HTML file; its run file goes beside it.

    Raises:
        FileNotFoundError: something that the report shows has not been made; the message names it.
        ValueError: a file is damaged or belongs to another study.
    """
    run, results = begin_run("report", spec, report_inputs(spec, results, rulegraph)), Path(results)
    tables = {table["name"]: table for table in spec["tables"]}
    own = {name: table for name, table in tables.items() if not is_derived(table)}
    rows = {name: read_rows(table, attacks_of(table, results)) for name, table in own.items()}
    models = [_model(name, entry, results / "models" / name) for name, entry in spec["models"].items()]
    datasets = sorted({entry["dataset"] for entry in spec["models"].values()})
    runs = _distinct_runs(tables, rows, results)
    content = {
        "study": spec["study"],
        "title": spec["title"],
        "facts": _facts(tables, runs, models),
        "datasets": [_dataset(name, results / "data" / name / "card.json") for name in datasets],
        "models": models,
        "groups": grouped([table_article(table, results, rows.get(name, {})) for name, table in tables.items()]),
        "figures": [figure_article(figure, tables, results) for figure in spec["figures"]],
        "commands": _commands(spec),
        "versions": _versions([model["run"] for model in models] + [run.run for run in runs]),
        "rulegraph": draw_rulegraph(rulegraph),
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template(TEMPLATE).render(content)
    with atomic_path(Path(out)) as temporary:
        temporary.write_text(html, encoding="utf-8")
    run.write(beside(out), checksums([out]), ["wolfe.report.page"])


def _model(name: str, entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    run = read_json(folder / "run.json")
    path = folder / "metrics.json"
    metrics = read_json(checked(path, run["outputs"]["metrics.json"]) if "metrics.json" in run["outputs"] else path)
    missing = [key for key in ("test", "epochs", "seconds") if key not in metrics]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: train this model again")
    return {
        "name": name,
        "dataset": entry["dataset"],
        "network": _network(entry["network"]),
        "encoding": _encoding(entry["encoding"]),
        "scores": _scores(metrics["test"]),
        "validation": _scores(metrics.get("validation", {})).partition(",")[0],
        "images": metrics.get("counts", {}).get("test", ""),
        "epochs": metrics["epochs"],
        "parameters": f"{metrics['parameters']:,}" if "parameters" in metrics else "",
        "seconds": metrics["seconds"],
        "time": duration(metrics["seconds"]),
        "run": run,
    }


def _scores(scores: Mapping[str, float]) -> str:
    """'accuracy 0.981', or 'mAP 0.912, exact match 0.610': the main score first."""
    order = sorted(scores, key=lambda name: (name not in ("accuracy", "mAP"), name))
    return ", ".join(f"{name.replace('_', ' ')} {scores[name]:.3f}" for name in order)


def _network(network: Mapping[str, Any]) -> str:
    name = network.get("architecture", network["name"])
    details = [f"{key.replace('_', ' ')} {_short(value)}" for key, value in network.items() if key not in _NAMES]
    return f"{name} ({', '.join(details)})" if details else str(name)


def _short(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list) else str(value)


def _encoding(encoding: Mapping[str, Any]) -> str:
    if encoding["kind"] == "codebook":
        bits = f", {encoding['length']} bits" if "length" in encoding else ""
        return f"codebook ({encoding.get('code', 'given')}{bits})"
    return str(encoding["kind"]).replace("_", "-")


def _dataset(name: str, path: Path) -> dict[str, Any]:
    card = read_json(path)
    found = card.get("counts", {})
    counts = {split: found[split] for split in sorted(found, key=lambda split: (*_SPLITS, split).index(split))}
    return {
        "name": name,
        "shape": " \N{MULTIPLICATION SIGN} ".join(str(size) for size in card.get("image_shape", [])),
        "labels": f"{len(card['class_names'])}{' in a hierarchy' if card.get('label_parents') else ''}",
        "counts": " / ".join(f"{count:,}" for count in counts.values()),
        "count_names": " / ".join(counts),
        "provenance": card.get("provenance", card.get("source", "")),
        "revision": card.get("revision", ""),
    }


def _distinct_runs(
    tables: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Mapping[str, RowRecords]], results: Path
) -> list[RowRecords]:
    """Every attack run once, even where several tables or rows show it; variants have runs of their own."""
    found = {result.folder: result for members in rows.values() for result in members.values()}
    for table in tables.values():
        for folder in folders(table, results / "attacks") if table.get("kind") == "variants" else []:
            if folder not in found:
                found[folder] = read_row(folder)
    return list(found.values())


def _facts(
    tables: Mapping[str, Mapping[str, Any]], runs: list[RowRecords], models: list[dict[str, Any]]
) -> list[tuple[str, str]]:
    """What stands at the top of the page: label and value."""
    images = sorted({len(run.records) for run in runs})
    devices = sorted({str(run.run.get("device", "unknown")) for run in runs})
    attacked = sum(float(run.run.get("seconds", 0)) for run in runs)
    trained = sum(model["seconds"] for model in models)
    attacked_tables = [table for table in tables.values() if not is_derived(table)]
    rows = sum(len(table["rows"]) for table in attacked_tables)
    more = len(tables) - len(attacked_tables)
    return [
        ("Tables", f"{len(attacked_tables)} with {rows} rows" + (f", {more} made from them" if more else "")),
        ("Attack runs", f"{len(runs)} on {listed([str(count) for count in images])} images each"),
        ("Images attacked", f"{sum(len(run.records) for run in runs):,}"),
        ("Device", listed(devices)),
        ("Training", duration(trained)),
        ("Attacks", duration(attacked)),
        ("Total", duration(trained + attacked)),
    ]


def _commands(spec: Mapping[str, Any]) -> list[tuple[str, str]]:
    study = spec["study"]
    embedded = study == "embedded"
    option = "" if embedded else f" --configfile config/{study}.yaml"
    everything = "make reproduce" if embedded else f"snakemake --cores all{option}"
    one = spec["tables"][0]["name"]
    return [
        ("Everything on this page", everything),
        ("One table and what it needs, nothing else", f"snakemake --cores all table_{one}{option}"),
    ]


def _versions(runs: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and version, or versions where runs differ, of all that the runs recorded."""
    frame = pd.DataFrame([(name, value) for run in runs for name, value in run.get("versions", {}).items()])
    if frame.empty:
        return []
    return [(str(name), ", ".join(sorted({str(one) for one in part[1]}))) for name, part in frame.groupby(0)]
