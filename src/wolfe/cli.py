"""The command line: one command for each stage of the pipeline, and some for a person at a terminal.

Every stage reads and writes the files that its options name and nothing else, so that any of them can be run again
alone. torch is imported only inside the commands that need it.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from wolfe.reading.text import LARGEST_YAML, parse_json, parse_yaml, read_text
from wolfe.study import Study, StudyError, attack_names, attack_parameters, load_study, schema
from wolfe.study.document import plain
from wolfe.study.errors import one_line

app = typer.Typer(
    name="wolfe",
    help="Nearly optimal targeted adversarial examples for any output encoding.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_log = logging.getLogger("wolfe.cli")
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Without --log the traceback goes nowhere; logging would print it on stderr else.
logging.getLogger("wolfe").addHandler(logging.NullHandler())

Spec = Annotated[str, typer.Option(help="The entry as JSON text, or the path of a YAML or JSON file.")]
Out = Annotated[Path, typer.Option(help="Where the results go.")]
Seed = Annotated[int, typer.Option(min=0, help="The study's seed.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Data = Annotated[Path, typer.Option(help="Folder of a data set.")]
Model = Annotated[Path, typer.Option(help="Folder of a trained model.")]
Store = Annotated[Path, typer.Option(help="Folder where finished work is kept.")]
Attacks = Annotated[
    Path,
    typer.Option(
        help="Folder of the attack runs: attacks/<model>/<target rule>; attacks for a derived table, transfer for one "
        "of transfer, results/<study> for one of losses or of an experiment."
    ),
]
Quiet = Annotated[bool | None, typer.Option("--quiet/--progress", help="By default quiet where there is no terminal.")]


def main() -> None:
    """Runs the command line."""
    app(prog_name="wolfe")


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends a command whose input is wrong with one line and exit code 2; WOLFE_DEBUG=1 shows the traceback."""

    @functools.wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        """Runs the command; every traceback goes to the log."""
        begin = time.perf_counter()
        try:
            command(*arguments, **options)
        except (ValueError, OSError, KeyError) as error:
            _log.error("%s", traceback.format_exc())
            if os.environ.get("WOLFE_DEBUG") == "1":
                raise
            missing = f"{error} is missing in what was given (WOLFE_DEBUG=1 shows where it is needed)"
            typer.echo(f"Error: {one_line(missing if isinstance(error, KeyError) else str(error))}", err=True)
            raise typer.Exit(2) from None
        except typer.Exit:
            raise
        except Exception as error:
            _log.error("%s", traceback.format_exc())
            refused = _refused_by_disk(error)
            if refused is None or os.environ.get("WOLFE_DEBUG") == "1":
                raise
            typer.echo(f"Error: {one_line(str(refused))}", err=True)
            raise typer.Exit(2) from None
        _log.info("finished after %.1f s", time.perf_counter() - begin)

    return guarded


def _refused_by_disk(error: BaseException | None) -> OSError | None:
    """The error of a full or closed disk that another one hides: libraries fail once more as they tidy up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            return error
        error = error.__cause__ or error.__context__
    return None


@app.callback()
def _options(
    log: Annotated[
        Path | None, typer.Option(help="File for messages and tracebacks; progress stays on stderr.")
    ] = None,
) -> None:
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(log, mode="w", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for name in ("wolfe", "py.warnings", "lightning", "lightning.pytorch"):
            logging.getLogger(name).addHandler(handler)
        logging.getLogger("wolfe").setLevel(logging.INFO)
        logging.captureWarnings(True)
        _log.info("wolfe %s", " ".join(sys.argv[1:]))


def _read_spec(text: str, option: str = "--spec") -> Any:
    """JSON text, or the contents of a YAML or JSON file.

    Raises:
        ValueError: the text or the file does not parse.
        FileNotFoundError: there is no such file.
    """
    inline = text.lstrip()[:1] in ("{", "[")
    if not inline and not Path(text).is_file():
        raise FileNotFoundError(f"{option}: {text!r} is neither JSON text nor a file")
    try:
        return parse_json(text) if inline else plain(parse_yaml(read_text(Path(text), LARGEST_YAML)))
    except ValueError as error:
        where = "the text" if inline else text
        raise ValueError(f"{option}: {where} is not valid {'JSON' if inline else 'YAML'} ({error})") from None


def _read_map(text: str) -> dict[str, Any]:
    spec = _read_spec(text)
    if not isinstance(spec, dict):
        raise ValueError(f"--spec: must hold a map, not {type(spec).__name__}")
    return spec


def _device(name: str) -> str:
    """The device that a name stands for here; see `resolve_device`."""
    from wolfe.models.storage import resolve_device

    return resolve_device(name)


@app.command("dataset")
@_one_line_errors
def dataset(name: str, spec: Spec, out: Out, seed: Seed) -> None:
    """Builds a data set: Arrow files and a card."""
    from wolfe.data import build_dataset

    build_dataset(name, _read_map(spec), out, seed)


@app.command("train")
@_one_line_errors
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
        name, _read_map(spec), data, out, store, seed, _device(device), bottom=bottom, quiet=quiet, calibrated=calibrate
    )


@app.command("targets")
@_one_line_errors
def targets(model: Model, data: Data, spec: Spec, out: Out, seed: Seed, device: Device = "auto") -> None:
    """Chooses the images to attack and a target for each."""
    from wolfe.experiments.targets import write_targets

    write_targets(model, data, _read_map(spec), out, seed, _device(device))


@app.command("attack-run")
@_one_line_errors
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

    entries = _read_spec(rows, "--rows")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("--rows: must hold a list of maps with slug, attack and parameters")
    place, chosen = _device(device), Part.read(part) if part else None
    run_attacks(
        model, targets, data, entries, out, store, seed, place, shard_size, batch_size, quiet, time_limit, chosen
    )


@app.command("transfer")
@_one_line_errors
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

    write_transfer(runs, model, data, out, _device(device), batch_size)


@app.command("experiment")
@_one_line_errors
def experiment(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study's results.")],
    out: Out,
    seed: Seed,
    device: Device = "auto",
) -> None:
    """Runs an experiment on trained classifiers and finished attack runs: circles, softmax or detection."""
    from wolfe.experiments.kinds import write_experiment

    write_experiment(_read_map(spec), results, out, seed, _device(device))


@app.command("table")
@_one_line_errors
def table(
    spec: Spec,
    attacks: Attacks,
    out: Annotated[Path, typer.Option(help="Path without suffix; .csv, .md and .tex are added.")],
    published: Annotated[Path | None, typer.Option(help="CSV of the published table.")] = None,
) -> None:
    """Writes a table: our numbers beside the published ones, or what several tables say together."""
    from wolfe.report.tables import write_table

    write_table(_read_map(spec), attacks, published, out)


@app.command("geometry")
@_one_line_errors
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

    write_geometry(model, targets, data, _read_map(spec), out, _device(device))


@app.command("figure")
@_one_line_errors
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

    write_figure(_read_map(spec), results, geometry, out)


@app.command("report")
@_one_line_errors
def report(
    spec: Spec,
    results: Annotated[Path, typer.Option(help="Folder of the study's results.")],
    rulegraph: Annotated[Path, typer.Option(help="The graph of the rules, in DOT.")],
    out: Out,
) -> None:
    """Writes the report: one self-contained HTML page."""
    from wolfe.report.page import write_report

    write_report(_read_map(spec), results, rulegraph, out)


@app.command("validate")
@_one_line_errors
def validate(
    study: Annotated[
        list[Path],
        typer.Argument(help="A study, e.g. config/embedded.yaml; of several files each adds to those before it."),
    ],
) -> None:
    """Checks a study and says what it would run."""
    plan = load_study(*study)
    _check_networks(plan)
    typer.echo(f"{plan.name}: valid ({len(plan.datasets)} data sets, {len(plan.models)} models)")
    for name, entry in plan.tables.items():
        typer.echo(f"  table {name}: {_summary(entry)}")
    for batch in plan.batches:
        typer.echo(f"  job attack_{batch.name}: {len(batch.rows)} attacks on {batch.model}, {batch.targets}")


def _check_networks(plan: Study) -> None:
    """Refuses networks and weights by names that their libraries do not have.

    A study alone is planned without these libraries, whose import takes seconds.

    Raises:
        StudyError: the message says where, and what there is.
    """
    networks = {f"models.{name}.network": entry["network"] for name, entry in plan.models.items()}
    for name, entry in plan.experiments.items():
        for index, detector in enumerate(entry.get("detectors", [])):
            networks[f"experiments.{name}.detectors[{index}].network"] = detector["network"]
    from wolfe.models.pretrained import check_names

    for place, network in networks.items():
        try:
            check_names(network)
        except ValueError as error:
            raise StudyError(f"{place}: {error}") from error


def _summary(table: dict[str, Any]) -> str:
    """A resolved table in a few words."""
    if table["kind"] == "attacks":
        cut = sum(row["cut"] for row in table["rows"])
        return f"{len(table['rows'])} rows on {table['model']}, {cut} cut by the budget"
    if table["kind"] == "variants":
        return f"{len(table['rows'])} variants of rows of other tables"
    if table["kind"] == "transfer":
        tables = sum(len(part["tables"]) for part in table["transfers"])
        return f"transfer of the attacks of {tables} tables, in {len(table['transfers'])} sets of classifiers"
    names = [part["table"] for part in table.get("parts", [table["part"]] if "part" in table else [])]
    names += [f"experiment {one['name']}" for one in table.get("experiments", [])]
    return f"{table['kind']}, from {', '.join(names)}"


@app.command("verify")
@_one_line_errors
def verify(
    results: Annotated[Path, typer.Argument(help="Folder of a study's results, e.g. results/embedded.")],
    strict: Annotated[bool, typer.Option("--strict", help="Fail on other code, packages or studies too.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="Results of another run: their tables must be equal, times aside.")
    ] = None,
) -> None:
    """Checks all results of a study again and says what differs; exit code 1 if anything is damaged or missing."""
    from wolfe.verification import differing_tables
    from wolfe.verification import verify as check

    found = check(results)
    wrong = found.wrong + (differing_tables(results, against) if against is not None else [])
    for line in [*wrong, *found.differing, *(f"remark: {text}" for text in found.remarks)]:
        typer.echo(line)
    differing, verdict = len(found.differing), f"{len(wrong)} wrong" if wrong else "all is well"
    typer.echo(
        f"{results}: {found.runs} runs, {found.files} files and {found.pieces} pieces of the store checked: {verdict}"
        + (f", {differing} difference{'s' * (differing > 1)} to what is in force now" if differing else "")
    )
    if wrong or (strict and found.differing):
        raise typer.Exit(1)


@app.command("list")
@_one_line_errors
def list_names(
    kind: Annotated[
        str, typer.Argument(help="attacks, datasets, networks, targets or experiments; all without it.")
    ] = "all",
) -> None:
    """Names what a study can use."""
    groups = {
        "attacks": [f"{name} ({', '.join(attack_parameters(name))})" for name in attack_names()],
        "datasets": schema()["$defs"]["dataset"]["properties"]["source"]["enum"],
        "networks": schema()["$defs"]["network"]["properties"]["name"]["enum"],
        "targets": schema()["$defs"]["targets"]["properties"]["rule"]["enum"],
        "experiments": schema()["$defs"]["experiment"]["properties"]["kind"]["enum"],
    }
    if kind not in ("all", *groups):
        raise StudyError(f"list: unknown kind {kind!r}; allowed: all, {', '.join(groups)}")
    for name, members in groups.items():
        if kind in ("all", name):
            typer.echo("\n  ".join([f"{name}:", *members]))


@app.command("attack")
@_one_line_errors
def attack(
    model: Model,
    image: Annotated[Path, typer.Option(help="A picture.")],
    target: Annotated[
        str, typer.Option(help='A class, or labels: "red 3,blue 5", "none", or changes: "+red 3,-blue 5".')
    ],
    out: Out,
    attack: Annotated[str, typer.Option(help="The attack's name; see `wolfe list attacks`.")] = "jma",
    parameter: Annotated[
        list[str] | None, typer.Option(help="name=value, as often as needed; the rest have their defaults.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set, for attacks that need examples or the hierarchy of its labels."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Attacks a picture of your own and writes a picture of the result."""
    from wolfe.experiments.single import attack_image
    from wolfe.report.single import write_single

    row = {"attack": attack, **dict(_parameter(text) for text in parameter or [])}
    typer.echo(write_single(attack_image(model, image, target, row, out, _device(device), data)))


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--parameter: {text!r} is not of the form name=value")
    return name.strip(), plain(parse_yaml(value))
