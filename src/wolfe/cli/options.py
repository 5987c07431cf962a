"""The options that commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wolfe.cli.entries import checked_entry
from wolfe.reading.text import LARGEST_YAML, parse_json, parse_yaml, read_text
from wolfe.study.document import plain

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


def read_spec(text: str, option: str = "--spec") -> Any:
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


def read_map(text: str) -> dict[str, Any]:
    """The map in a `--spec`, whatever is in it; see `read_spec`.

    Raises:
        ValueError: it holds something else.
    """
    spec = read_spec(text)
    if not isinstance(spec, dict):
        raise ValueError(f"--spec: must hold a map, not {type(spec).__name__}")
    return spec


def read_entry(text: str) -> dict[str, Any]:
    """An entry of a study as it is resolved, from a `--spec`; see `checked_entry`."""
    return dict(checked_entry(read_map(text), "--spec"))


def device_called(name: str) -> str:
    """The device that a name stands for here; see `resolve_device`."""
    from wolfe.models.storage import resolve_device

    return resolve_device(name)
