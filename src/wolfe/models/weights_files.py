"""The files of published weights: in a folder, or fetched, and checked as far as their names promise anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wolfe.files import sha256

# A file of torchvision's carries the beginning of its checksum in its name.
_HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")


@dataclass(frozen=True)
class Published:
    """Trained weights as their library knows them, wherever their file may be.

    Attributes:
        name: library, architecture and the weights' own name.
        mean: what was subtracted from each channel of an image in [0, 1].
        std: what it was divided by.
        classes: the meaning of the outputs; empty where it is not known, or where they are no classes.
        files: what their file may be called below a folder, the usual name first.
        fetch: gets the file; raises OSError where that cannot be.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    files: tuple[str, ...]
    fetch: Callable[[], Path]


@dataclass(frozen=True)
class Weights:
    """Trained weights in a file.

    Attributes:
        name: as of `Published`, like all but the file.
        file: where they are.
        mean: what was subtracted from each channel of an image in [0, 1].
        std: what it was divided by.
        classes: the meaning of the outputs; empty where it is not known, or where they are no classes.
    """

    name: str
    file: Path
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]

    def origin(self) -> dict[str, str]:
        """What a classifier's description says of them."""
        return {"name": self.name, "sha256": sha256(self.file)}


def located(network_spec: Mapping[str, Any], known: Published) -> Weights:
    """Published weights in the file that is named, or in a usual one of a folder, or in what was fetched.

    Args:
        network_spec: with `weights_file` or `weights_root`, if any.
        known: the weights.

    Raises:
        FileNotFoundError: the file is missing; the message says what to do.
        ValueError: its content is not what its name promises.
    """
    path = _path(network_spec, known)
    promised = _HASH.search(path.name)
    if promised and not sha256(path).startswith(promised[1]):
        raise ValueError(f"{path} is damaged: its checksum does not begin with {promised[1]}, as its name says")
    return Weights(known.name, path, known.mean, known.std, known.classes)


def _path(network_spec: Mapping[str, Any], known: Published) -> Path:
    given, root = network_spec.get("weights_file"), network_spec.get("weights_root")
    if given or root:
        paths = [Path(given)] if given else [Path(str(root)) / name for name in known.files]
        for path in paths:
            if path.is_file():
                return path
        looked = " or ".join(str(path) for path in paths)
        raise FileNotFoundError(f"network: {looked}, the weights {known.name}, is missing")
    try:
        return known.fetch()
    except OSError as error:
        raise FileNotFoundError(
            f"network: the weights {known.name} are not on this machine and cannot be fetched here ({error}): put "
            f"{' or '.join(known.files)} into a folder and name it as weights_root"
        ) from error
