"""Experiments by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

_KINDS = ("circles", "softmax", "detection")


def write_experiment(spec: Mapping[str, Any], results: Path, out: Path, seed: int, device: str) -> None:
    """Runs an experiment of any kind and writes its folder: see `write_<kind>` in `wolfe.experiments.<kind>`.

    Args:
        spec: the resolved experiment: `name`, `kind` and what its kind takes.
        results: `results/<study>`, with the models, data sets and attack runs that it names.
        out: the folder to write: `records.parquet`, `run.json` with the checksums of all files, and others.
        seed: the study's.
        device: "cpu" or "cuda".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the kind is unknown, or what the spec asks for cannot be had.
    """
    kind = spec.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of experiment {kind!r}; there are {', '.join(_KINDS)}")
    # Only the module of this kind: the others import much that it does without.
    write: Callable[..., None] = getattr(import_module(f"wolfe.experiments.{kind}"), f"write_{kind}")
    write(spec, Path(results), Path(out), seed, device)
