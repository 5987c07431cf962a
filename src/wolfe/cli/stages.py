"""The commands of the pipeline's stages: each reads and writes the files that its options name and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wolfe.cli.app import app
from wolfe.cli.entries import checked_entry
from wolfe.cli.errors import one_line_errors
from wolfe.cli.options import (
    Attacks,
    Data,
    Device,
    Model,
    Out,
    Quiet,
    Seed,
    Spec,
    Store,
    device_called,
    read_entry,
    read_map,
    read_spec,
)


@app.command("dataset")
@one_line_errors
def dataset(name: str, spec: Spec, out: Out, seed: Seed) -> None:
    """Builds a data set: Arrow files and a card."""
    from wolfe.data import build_dataset

    build_dataset(name, read_entry(spec), out, seed)


@app.command("train")
@one_line_errors
def train(
    name: str,
    spec: Spec,
    data: Data,
    out: Out,
    store: Store,
    seed: Seed,
    device: Device = "auto",
    bottom: Annotated[Path | None, typer.Option(help="Folder of the VGG16 that an ensemble starts from.")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the fastest way to products with the Jacobian here.")
    ] = False,
    quiet: Quiet = None,
) -> None:
    """Trains a classifier; one that was stopped goes on from its last checkpoint."""
    from wolfe.models import train_model

    train_model(
        name,
        read_entry(spec),
        data,
        out,
        store,
        seed,
        device_called(device),
        bottom=bottom,
        quiet=quiet,
        calibrated=calibrate,
    )


@app.command("targets")
@one_line_errors
def targets(model: Model, data: Data, spec: Spec, out: Out, seed: Seed, device: Device = "auto") -> None:
    """Chooses the images to attack and a target for each."""
    from wolfe.experiments.targets import write_targets

    write_targets(model, data, read_entry(spec), out, seed, device_called(device))


@app.command("attack-run")
@one_line_errors
def attack_run(
    model: Model,
    targets: Annotated[Path, typer.Option(help="Parquet file of images and targets.")],
    data: Data,
    rows: Annotated[str, typer.Option(help="Attack rows as JSON text, or the path of a YAML or JSON file.")],
    out: Out,
    store: Store,
    seed: Seed,
    device: Device = "auto",
    shard_size: Annotated[int, typer.Option(min=1, help="Images that are finished and kept together.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, help="Images attacked at once.")] = 32,
    time_limit: Annotated[float | None, typer.Option(help="Seconds that an attack may take on an image.")] = None,
    part: Annotated[str | None, typer.Option(help="Such as 2/4: this part goes to the store, a list to --out.")] = None,
    quiet: Quiet = None,
) -> None:
    """Attacks images with every row; finished shards in the store are not repeated."""
    from wolfe.experiments.attack_run import run_attacks
    from wolfe.experiments.part import Part

    entries = read_spec(rows, "--rows")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("--rows: must hold a list of maps with slug, attack and parameters")
    checked_entry(entries, "--rows")
    place, chosen = device_called(device), Part.read(part) if part else None
    run_attacks(
        model, targets, data, entries, out, store, seed, place, shard_size, batch_size, quiet, time_limit, chosen
    )


@app.command("transfer")
@one_line_errors
def transfer(
    runs: Annotated[list[Path], typer.Argument(help="Folders of attack runs: attacks/<model>/<target rule>/<slug>.")],
    model: Annotated[list[Path], typer.Option(help="Folder of a trained model; as often as there are models to ask.")],
    data: Data,
    out: Out,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 128,
) -> None:
    """Asks other classifiers about the images of finished attack runs; nothing is attacked again."""
    from wolfe.experiments.transfer import write_transfer

    write_transfer(runs, model, data, out, device_called(device), batch_size)


@app.command("experiment")
@one_line_errors
def experiment(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study's results.")],
    out: Out,
    seed: Seed,
    device: Device = "auto",
) -> None:
    """Runs an experiment on trained classifiers and finished attack runs: circles, softmax or detection."""
    from wolfe.experiments.kinds import write_experiment

    write_experiment(read_entry(spec), results, out, seed, device_called(device))


@app.command("table")
@one_line_errors
def table(
    spec: Spec,
    attacks: Attacks,
    out: Annotated[Path, typer.Option(help="Path without suffix; .csv, .md and .tex are added.")],
    published: Annotated[Path | None, typer.Option(help="CSV of the published table.")] = None,
) -> None:
    """Writes a table: our numbers beside the published ones, or what several tables say together."""
    from wolfe.report.tables import write_table

    write_table(read_entry(spec), attacks, published, out)


@app.command("geometry")
@one_line_errors
def geometry(
    model: Model,
    targets: Annotated[Path, typer.Option(help="Parquet file of images and targets.")],
    data: Data,
    spec: Spec,
    out: Annotated[Path, typer.Option(help="A JSON file.")],
    device: Device = "auto",
) -> None:
    """Measures the geometry of a target on two outputs of a multi-label model."""
    from wolfe.experiments.geometry import write_geometry

    write_geometry(model, targets, data, read_entry(spec), out, device_called(device))


@app.command("figure")
@one_line_errors
def figure(
    spec: Spec,
    out: Annotated[Path, typer.Option(help="Path without suffix; .pdf and .png are added.")],
    results: Annotated[
        Path | None, typer.Option(help="Folder of the study's results, for figures of all kinds but geometry.")
    ] = None,
    geometry: Annotated[
        Path | None, typer.Option(help="What `wolfe geometry` wrote, for figures of the kind geometry.")
    ] = None,
) -> None:
    """Draws a figure: attacked images, the geometry of a target, a map of transfer, or what an experiment found."""
    from wolfe.report.figures import write_figure

    write_figure(read_entry(spec), results, geometry, out)


@app.command("report")
@one_line_errors
def report(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study's results.")],
    rulegraph: Annotated[Path, typer.Option(help="The graph of the rules, in DOT.")],
    out: Out,
) -> None:
    """Writes the report: one self-contained HTML page."""
    from wolfe.report.page import write_report

    write_report(read_map(spec), results, rulegraph, out)
