"""Folders that a study names once, for all of its published data sets and weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ROOTS = ("data_root", "weights_root")
_WEIGHTS = ("weights", "pretrained")
"""What of a network's entry asks for published weights."""


def with_roots(document: Mapping[str, Any]) -> dict[str, Any]:
    """A study in which `data_root` and `weights_root` are said where they matter.

    Args:
        document: a study that satisfies the schema.

    Returns:
        The study, in which each published data set without a folder of its own has `<data_root>/<collection>`, and each
        network with published weights `weights_root`, if the study names these.
    """
    data_root, weights_root = document.get("data_root"), document.get("weights_root")
    rest = {key: value for key, value in document.items() if key not in ("data_root", "weights_root")}
    if data_root is not None:
        rest["datasets"] = {name: _with_data(entry, data_root) for name, entry in document["datasets"].items()}
    if weights_root is not None:
        rest["models"] = {
            name: {**entry, "network": _with_weights(entry["network"], weights_root)}
            for name, entry in document["models"].items()
        }
    return rest


def without_roots(entry: Any) -> Any:
    """Plain values without the folders of this machine: a study is the same wherever its published files lie."""
    if isinstance(entry, Mapping):
        return {key: without_roots(value) for key, value in entry.items() if key not in _ROOTS}
    return [without_roots(value) for value in entry] if isinstance(entry, list | tuple) else entry


def fetches(study: Mapping[str, Any]) -> bool:
    """Whether a study's data sets or weights are fetched: some lie in no folder that the study names.

    Args:
        study: from `with_roots`, or anything else with its `datasets` and `models`.
    """
    images = any(entry["source"] == "hub" and entry.get("data_root") is None for entry in study["datasets"].values())
    return images or any(_fetches_weights(entry["network"]) for entry in study["models"].values())


def _fetches_weights(network: Mapping[str, Any]) -> bool:
    backbone = network.get("backbone")
    if isinstance(backbone, Mapping) and _fetches_weights(backbone):
        return True
    return _wants_weights(network) and not _has_place(network)


def _wants_weights(network: Mapping[str, Any]) -> bool:
    return any(network.get(key) for key in _WEIGHTS)


def _has_place(network: Mapping[str, Any]) -> bool:
    return bool(network.get("weights_root") or network.get("weights_file"))


def _with_data(entry: Mapping[str, Any], root: str) -> dict[str, Any]:
    if entry["source"] != "hub" or entry.get("data_root") is not None:
        return dict(entry)
    return {**entry, "data_root": str(Path(root) / entry["collection"])}


def _with_weights(network: Mapping[str, Any], root: str) -> dict[str, Any]:
    """A network's entry and, below it, that of the network whose features it uses."""
    said = dict(network)
    if isinstance(said.get("backbone"), Mapping):
        said["backbone"] = _with_weights(said["backbone"], root)
    if _wants_weights(said) and not _has_place(said):
        said["weights_root"] = root
    return said
