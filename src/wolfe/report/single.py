"""The picture of one attacked image: what was, what was changed and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wolfe.files import atomic_path, read_json
from wolfe.reading.pictures import read_picture
from wolfe.reading.tensors import read_array
from wolfe.report.drawing import GREY, INK, RED, Line, Panel, draw, label_lines
from wolfe.report.figures import perturbation_picture
from wolfe.report.words import scientific, significant


def write_single(folder: Path) -> Path:
    """Draws the result of one attacked picture as `picture.png` in its folder.

    Args:
        folder: original.png, adversarial.safetensors and result.json of an attack on one picture.

    Returns:
        The path of the picture.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: result.json does not parse, or another file cannot be read; the message names it.
    """
    folder = Path(folder)
    result = read_json(folder / "result.json")
    record, names = result["record"], result["class_names"]
    original = _read(folder / "original.png")
    adversarial = read_array(folder / "adversarial.safetensors", "adversarial")[0].transpose(1, 2, 0)
    enlarged, scale = perturbation_picture(adversarial - original)
    before = Panel(
        title=[Line("Original", INK, bold=True)],
        image=original,
        heading="decision",
        labels=_labels(record["true_label"], record["true_label"], names),
    )
    change = Panel(
        title=[Line(f"Perturbation \N{MULTIPLICATION SIGN}\u00a0{significant(scale, 2)}", INK, bold=True)],
        image=enlarged,
        heading="distance",
        labels=[
            Line(f"L2 {significant(record['l2'])}", INK),
            Line(f"MSE {scientific(record['mse'])}", INK),
            Line(f"{significant(record['seconds'], 2)} s", INK),
        ],
    )
    reached = bool(record["success"])
    after = Panel(
        title=[Line("Adversarial", INK, bold=True)],
        image=np.clip(adversarial, 0, 1),
        failed=not reached,
        heading="decision",
        labels=[*_labels(record["true_label"], record["prediction"], names), _verdict(record)],
    )
    with atomic_path(folder / "picture.png") as temporary:
        draw([before, change, after]).savefig(temporary, format="png", dpi=220)
    return folder / "picture.png"


def _read(path: Path) -> NDArray[np.floating[Any]]:
    try:
        values = np.asarray(read_picture(path, None, formats=("PNG",)), dtype=np.float32) / 255
    except ValueError as error:
        raise ValueError(f"{path} is no picture that can be read ({error})") from error
    return values[:, :, None] if values.ndim == 2 else values


def _labels(before: Any, after: Any, names: list[str]) -> list[Line]:
    return label_lines(before, after, names) if np.ndim(after) else [Line(names[int(after)], INK)]


def _verdict(record: dict[str, Any]) -> Line:
    if not record["success"]:
        return Line(f"failed: {str(record['status']).replace('_', ' ')}", RED)
    return Line("target reached" if record["success_8bit"] else "reached, lost in 8 bits", GREY)
