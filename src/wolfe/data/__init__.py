"""Data sets: embedded sources, a writer and a reader.

To add one, write a builder `build_...(seed, *, options) -> Source` in a file here and name it in `SOURCES`. What
reads data sets is imported on first use: building one needs no torch.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wolfe.data.digits import build_digits
from wolfe.data.hub import build_hub
from wolfe.data.scenes import build_scenes
from wolfe.data.sequences import build_sequences
from wolfe.data.source import Builder, Source, Split
from wolfe.data.writer import write_source
from wolfe.files import read_json, sha256
from wolfe.provenance import RUN, begin_run

if TYPE_CHECKING:
    from wolfe.data.image_set import ImageSet, load_card, open_split

__all__ = ["SOURCES", "ImageSet", "Source", "Split", "build_dataset", "load_card", "open_split"]

SOURCES: dict[str, Builder] = {
    "digits": build_digits,
    "hub": build_hub,
    "scenes": build_scenes,
    "sequences": build_sequences,
}
# What an option's value must be, by its default's type or, where that says nothing, its annotation's first word.
_KINDS: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "str": (str, "text"),
    "Mapping": (dict, "a map"),
}


def build_dataset(name: str, spec: dict[str, Any], folder: Path, seed: int) -> None:
    """Builds a data set of a study and writes it.

    Args:
        name: its name in the study.
        spec: its entry there: `source` and that builder's options.
        folder: where `arrow/`, `card.json` and `run.json` go.
        seed: the study's seed.

    Raises:
        ValueError: an unknown source or option (the message lists those there are), or a wrong value of one.
    """
    options = dict(spec)
    origin = options.pop("source", None)
    if origin not in SOURCES:
        raise ValueError(f"data set {name!r}: unknown source {origin!r}; there are {', '.join(SOURCES)}")
    builder = SOURCES[origin]
    _check_options(f"data set {name!r}", origin, options)
    run, folder = begin_run("dataset", spec, seed=seed), Path(folder)
    write_source(name, origin, builder(seed, **options), folder)
    card = read_json(folder / "card.json")
    outputs = {"card.json": sha256(folder / "card.json"), **card["checksums"]}
    run.write(folder / RUN, outputs, ["wolfe.data"], revision=card["revision"])


def _check_options(place: str, origin: str, options: dict[str, Any]) -> None:
    """Refuses what a builder has no option for, values of another kind, and a lack of what it needs."""
    parameters = inspect.signature(SOURCES[origin]).parameters
    allowed = {key: entry for key, entry in parameters.items() if key != "seed"}
    for key, value in options.items():
        if key not in allowed:
            raise ValueError(f"{place}: {origin} has no option {key!r}; it has {', '.join(allowed)}")
        entry = allowed[key]
        said = entry.annotation if entry.default in (None, entry.empty) else type(entry.default).__name__
        kind, wanted = _KINDS[re.split(r"\W", said)[0]]
        if type(value) is not kind and not (value is None and entry.default is None):
            raise ValueError(f"{place}: {key} must be {wanted}, got {value!r}")
    for key, entry in allowed.items():
        if entry.default is entry.empty and key not in options:
            raise ValueError(f"{place}: {origin} needs the option {key!r}")


def __getattr__(name: str) -> Any:
    """Imports what reads data sets when it is first asked for.

    Raises:
        AttributeError: the name is not public here.
    """
    if name not in ("ImageSet", "load_card", "open_split"):
        raise AttributeError(f"module 'wolfe.data' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module("wolfe.data.image_set"), name)
