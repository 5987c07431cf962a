"""A figure of pictures: what four losses add to the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wolfe.data import open_split
from wolfe.files import read_json
from wolfe.report.drawing import INK, Block, Line, Panel, draw_blocks
from wolfe.report.examples import Example
from wolfe.report.losses_runs import LOSSES, loss_of, setting_of, stops
from wolfe.report.records import RowRecords, attacks_of, read_row
from wolfe.report.words import listed, significant

IMAGES = 2
"""How many images are shown at most."""
_SETTING = "equal_perturbation"


@dataclass(frozen=True)
class _Shown:
    """An image under each loss: its name, position in the runs and record by loss."""

    image_id: str
    positions: dict[str, int]


def draw_perturbations(spec: Mapping[str, Any], results: Path) -> Figure:
    """Each image, what each loss made of it, and below that the perturbation, of an image all enlarged alike."""
    runs, shown = _chosen(spec, results)
    data = Path(results) / "data" / spec["part"]["dataset"]
    images = open_split(data, "test")
    places = {name: place for place, name in enumerate(images.ids)}
    missing = [one.image_id for one in shown if one.image_id not in places]
    if missing:
        raise ValueError(f"{data} holds no image {missing[0]!r}: the attacks were run on another data set")
    originals = np.asarray(images.images([places[one.image_id] for one in shown]), dtype=np.float32)
    names = list(images.class_names)
    return draw_blocks(
        [Block(_panels(one, original, runs, names)) for one, original in zip(shown, originals, strict=True)]
    )


def _rows(spec: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], bool]:
    """The rows of equal perturbation that end at the first change, where all losses have one, else the others."""
    part = spec["part"]
    rows = [row for row in part["rows"] if row["attack"] == "gradient" and setting_of(row) == _SETTING]
    for early in (True, False):
        found = {loss_of(row): row for row in rows if stops(row) == early}
        if set(found) == set(LOSSES):
            return [found[loss] for loss in LOSSES], early
    raise ValueError(f"figure {spec['name']!r}: table {part['table']!r} lacks a loss at equal perturbation")


def _chosen(spec: Mapping[str, Any], results: Path) -> tuple[dict[str, RowRecords], list[_Shown]]:
    """The runs by loss, and the first images that every loss brings to their target, then those that most do."""
    rows, _ = _rows(spec)
    attacks = attacks_of(spec["part"], results)
    runs = {loss_of(row): read_row(attacks / row["slug"]) for row in rows}
    places = {
        loss: dict(zip(run.records["image_id"].astype(str), run.records.index, strict=True))
        for loss, run in runs.items()
    }
    success = {loss: run.records["success"].astype(bool) for loss, run in runs.items()}
    times = {
        name: sum(bool(success[loss][known[name]]) for loss, known in places.items())
        for name in places["cross_entropy"]
    }
    names = sorted(times, key=lambda name: -times[name])[:IMAGES]
    return runs, [_Shown(name, {loss: int(known[name]) for loss, known in places.items()}) for name in names]


def _panels(
    shown: _Shown, original: NDArray[np.float32], runs: Mapping[str, RowRecords], names: Sequence[str]
) -> list[Panel]:
    """The image as it came, and what each loss made of it."""
    examples = {
        loss: Example(
            LOSSES[loss],
            False,
            {str(key): value for key, value in run.records.loc[shown.positions[loss]].items()},
            shown.positions[loss],
            run.folder,
        )
        for loss, run in runs.items()
    }
    moved = {loss: example.adversarial() - original for loss, example in examples.items()}
    scale = _scale(list(moved.values()))
    record = examples["cross_entropy"].record
    classes = [f"label: {names[int(record['true_label'])]}", f"target: {names[int(record['target'])]}"]
    first = Panel(
        [Line("Original", INK, bold=True)], _last(original), below_image=[Line(text, INK) for text in classes]
    )
    return [first, *(_panel(example, moved[loss], scale) for loss, example in examples.items())]


def _panel(example: Example, moved: NDArray[np.float32], scale: float) -> Panel:
    record = example.record
    sizes = [f"L2 {significant(float(record['l2']))}", f"Linf {significant(float(np.abs(moved).max()))}"]
    texts = [
        f"perturbation \N{MULTIPLICATION SIGN}\u00a0{significant(scale, 2)}",
        *sizes,
        f"{record['iterations']} steps",
        *([] if record["success"] else ["target not reached"]),
    ]
    return Panel(
        title=[Line(example.label, INK, bold=True)],
        image=_last(example.adversarial()),
        perturbation=np.clip(0.5 + scale * _channels(moved), 0, 1),
        below_perturbation=[Line(text, INK) for text in texts],
    )


def _scale(moved: Sequence[NDArray[np.float32]]) -> float:
    """One factor for all perturbations of an image: the 99.5th percentile of their values just fits, two digits."""
    largest = max(float(np.quantile(np.abs(one), 0.995)) for one in moved)
    return float(f"{0.5 / largest:.1e}") if largest > 0 else 1.0


def _channels(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.moveaxis(image, 0, -1)


def _last(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(_channels(image), 0, 1)


def perturbation_words(spec: Mapping[str, Any], results: Path) -> str:
    """What the figure of pictures shows."""
    rows, early = _rows(spec)
    _, shown = _chosen(spec, results)
    when = (
        "at the first change to the target" if early else f"after all {rows[0]['parameters']['max_iterations']} steps"
    )
    card = read_json(Path(results) / "models" / spec["part"]["model"] / "classifier.json")
    return (
        f"The first {len(shown)} of the images that most losses bring to their target, at equal perturbation; a loss "
        f"that does not says so. Shown are the images and their perturbations {when}, around mid-grey; all "
        f"perturbations of an image are enlarged by the same factor, and the few values that then do not fit are cut "
        f"off. The network tells "
        f"{len(card['class_names'])} classes apart; images {listed([one.image_id for one in shown])}."
    )
