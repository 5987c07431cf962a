"""The commands for a person at a terminal: what a study would run, whether results still hold, one picture attacked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wolfe.cli.app import app
from wolfe.cli.errors import one_line_errors
from wolfe.cli.options import Device, Model, Out, device_called
from wolfe.reading.text import parse_yaml
from wolfe.study import Study, StudyError, attack_names, attack_parameters, load_study, schema
from wolfe.study.document import plain


@app.command("validate")
@one_line_errors
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
@one_line_errors
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
@one_line_errors
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
@one_line_errors
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
    typer.echo(write_single(attack_image(model, image, target, row, out, device_called(device), data)))


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--parameter: {text!r} is not of the form name=value")
    return name.strip(), plain(parse_yaml(value))
