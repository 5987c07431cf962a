"""Classifiers on disk: `weights.safetensors`, `classifier.json` and, where there is one, `calibration.json`.

Each is whole or absent; nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from wolfe.classifier import Classifier
from wolfe.encoding import encoding_from_dict
from wolfe.files import atomic_path, checked, read_json, sha256, write_json
from wolfe.linear.calibration import Calibration
from wolfe.models.description import NEEDED, build_described, check_description, check_fits
from wolfe.provenance import check_written

WEIGHTS = "weights.safetensors"
DESCRIPTION = "classifier.json"
CALIBRATION = "calibration.json"


def save_classifier(classifier: Classifier, folder: Path, description: dict[str, Any]) -> None:
    """Writes a classifier's weights and description.

    Args:
        classifier: whose network was built by `build_network(description["network"], ...)`.
        folder: where the two files go.
        description: `network`, `image_shape` [C, H, W], `class_names` and `dataset`; the encoding, the
            normalisation and the checksum of the weights are added here.

    Raises:
        ValueError: a weight is not finite; nothing is written.
    """
    folder = Path(folder)
    broken = [key for key, value in classifier.net.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(f"the weights of {description.get('name', 'a classifier')} are not finite, e.g. {broken[0]}")
    tensors = {key: value.detach().cpu().contiguous() for key, value in classifier.net.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_json(
        folder / DESCRIPTION,
        {
            **description,
            "encoding": classifier.encoding.to_dict(),
            "mean": classifier.mean.flatten().tolist(),
            "std": classifier.std.flatten().tolist(),
            "weights_sha256": sha256(folder / WEIGHTS),
        },
    )


def save_calibration(calibration: Calibration, folder: Path) -> None:
    """Writes what was measured beside a classifier's weights."""
    write_json(Path(folder) / CALIBRATION, calibration.to_dict())


def load_calibration(folder: Path) -> Calibration | None:
    """Reads what was measured; None where nothing was.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    path = Path(folder) / CALIBRATION
    if not path.is_file():
        return None
    try:
        return Calibration.from_dict(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, or train again") from error


def load_description(folder: Path) -> dict[str, Any]:
    """Reads `classifier.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it does not parse or lacks an entry.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is no trained classifier")
    description: dict[str, Any] = read_json(path)
    missing = [key for key in NEEDED if key not in description] if isinstance(description, dict) else ["all entries"]
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}")
    check_description(path, description)
    return description


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Loads a classifier in evaluation mode, its parameters frozen, once the weights' checksum is verified.

    Args:
        folder: with `weights.safetensors`, `classifier.json` and, where it was calibrated, `calibration.json`.
        device: "cpu", "cuda" or "auto" (cuda where there is one).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the weights were changed or do not fit the network, or the calibration is damaged; the message
            names the file.
    """
    folder = Path(folder)
    description = load_description(folder)
    check_written(folder / DESCRIPTION)
    weights = checked(folder / WEIGHTS, description["weights_sha256"])
    encoding = encoding_from_dict(description["encoding"])
    channels, size, _ = description["image_shape"]
    check_fits(weights, description["network"], channels, encoding.size, size)
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn and thrown away: leave no trace
        net = build_described(folder / DESCRIPTION, description["network"], channels, encoding.size, size)
    try:
        net.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit the network in {folder / DESCRIPTION}") from error
    classifier = Classifier(net, encoding, description["mean"], description["std"])
    classifier.calibration = load_calibration(folder)
    return classifier.to(resolve_device(device)).eval().requires_grad_(False)


def resolve_device(device: str) -> str:
    """The device to use: "auto" is cuda where there is one, else cpu.

    Raises:
        ValueError: another name, or cuda without one.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no CUDA device here: use auto or cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
