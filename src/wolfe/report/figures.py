"""Figures of every kind; here one image under several attacks, with its perturbations, labels, distortion and time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wolfe.data import open_split
from wolfe.files import read_json
from wolfe.provenance import begin_run, beside, checksums
from wolfe.report.charts import CHARTS
from wolfe.report.drawing import GREY, INK, MOST_COLUMNS, RED, Block, Line, Panel, draw_blocks, label_lines, save
from wolfe.report.examples import Example, select_parts
from wolfe.report.geometry import draw_geometry, read_geometry
from wolfe.report.records import label_indices
from wolfe.report.transfer_map import draw_transfer
from wolfe.report.words import scientific, significant, table_name
from wolfe.study.needs import figure_inputs

_TOLERANCE = 0.01
# Of what a figure's code consists; charts are those of another file.
_MODULES = {
    "examples": "wolfe.report.figures",
    "geometry": "wolfe.report.geometry",
    "transfer": "wolfe.report.transfer_map",
}


def write_figure(spec: Mapping[str, Any], results: Path | None, geometry: Path | None, out: Path) -> None:
    """Writes a figure of any kind; see `write_examples`, `geometry.draw_geometry`, `transfer_map` and `charts`.

    Its run file is `<out>.run.json`.

    Args:
        spec: the figure.
        results: `results/<study>`, needed by all kinds but "geometry".
        geometry: what was measured, needed by the kind "geometry".
        out: the files' common stem.

    Raises:
        ValueError: the kind is unknown, or what it needs is not given.
    """
    run = begin_run("figure", spec, figure_inputs(spec, results, geometry))
    _write(spec, results, geometry, out)
    outputs = checksums(Path(f"{out}{suffix}") for suffix in (".pdf", ".png"))
    run.write(beside(out), outputs, [_MODULES.get(spec.get("kind", "examples"), "wolfe.report.charts")])


def _write(spec: Mapping[str, Any], results: Path | None, geometry: Path | None, out: Path) -> None:
    kind = spec.get("kind", "examples")
    needed = {
        "examples": ("results", results),
        "geometry": ("geometry", geometry),
        "transfer": ("results", results),
        **dict.fromkeys(CHARTS, ("results", results)),
    }
    if kind not in needed:
        raise ValueError(f"figure {spec['name']!r}: unknown kind {kind!r}; there are {', '.join(needed)}")
    option, place = needed[kind]
    if place is None:
        raise ValueError(f"figure {spec['name']!r}: the kind {kind!r} needs --{option}")
    if kind == "geometry":
        save(draw_geometry(read_geometry(place)), out)
    elif kind == "transfer":
        save(draw_transfer(spec, place), out)
    elif kind in CHARTS:
        save(CHARTS[kind].draw(spec, place), out)
    else:
        write_examples(spec, place, out)


def write_examples(spec: Mapping[str, Any], results: Path, out: Path) -> None:
    """Writes a figure of attacked images as `<out>.pdf` and `<out>.png`; the same input gives the same bytes.

    Failed attacks are shown as such. Which images and which rows: see `examples.select_parts`.

    Args:
        spec: the figure: name, title, kind "examples" and `parts`, each with table (resolved), rows, image, images.
        results: `results/<study>`, with attacks, data and models.
        out: the files' common stem.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or data, model and attacks do not belong together.
    """
    several = len(spec["parts"]) > 1
    chosen = zip(spec["parts"], select_parts(spec["parts"], results), strict=True)
    save(draw_blocks([block for pair in chosen for block in _blocks(*pair, Path(results), several)]), out)


def _blocks(part: Mapping[str, Any], images: list[list[Example]], results: Path, several: bool) -> list[Block]:
    """What a part shows: its images beside each other where they fit, else below each other."""
    table = part["table"]
    data = results / "data" / table["dataset"]
    panels = []
    for examples in images:
        original, class_names = _original(str(examples[0].record["image_id"]), data)
        _check_model(results / "models" / table["model"], class_names, data)
        attacked = [_attack_panel(example, original, class_names) for example in examples]
        panels.append([_original_panel(examples[0], original, class_names), *attacked])
    heading = f"{table_name(table['name'])}: {table['title']} ({table['dataset']}, {table['model']})" if several else ""
    together = [panel for row in panels for panel in row]
    if len(together) <= MOST_COLUMNS:
        return [Block(together, heading)]
    return [Block(row, heading if number == 0 else "") for number, row in enumerate(panels)]


def perturbation_picture(perturbation: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], float]:
    """A perturbation as a picture: enlarged as far as it fits, around mid-grey.

    Args:
        perturbation: signed differences, any shape.

    Returns:
        Values in [0, 1] of the same shape, 0.5 where nothing changes, and the factor (two digits; 1 where nothing
        changes at all).
    """
    largest = float(np.abs(perturbation).max(initial=0.0))
    if largest == 0:
        return np.full_like(perturbation, 0.5), 1.0
    scale = 0.5 / largest
    unit = 10.0 ** (math.floor(math.log10(scale)) - 1)
    # Rounded down, so that nothing is cut off; the small addition keeps 12.0 from becoming 11.
    scale = math.floor(scale / unit + 1e-9) * unit
    return np.clip(0.5 + scale * perturbation, 0, 1), scale


def _original(image_id: str, data: Path) -> tuple[NDArray[np.float32], list[str]]:
    """The image (C, H, W) before the attack, and the names of the labels."""
    images = open_split(data, image_id.split("-", 1)[0])
    if image_id not in images.ids:
        raise ValueError(f"{data} holds no image {image_id!r}: the attacks were run on another data set")
    return np.asarray(images.images([images.ids.index(image_id)])[0], dtype=np.float32), list(images.class_names)


def _check_model(model: Path, class_names: list[str], data: Path) -> None:
    path = Path(model) / "classifier.json"
    if read_json(path).get("class_names") != class_names:
        raise ValueError(f"{path} names other classes than {data}: the model belongs to another data set")


def _original_panel(example: Example, original: NDArray[np.float32], class_names: list[str]) -> Panel:
    true, target = example.record["true_label"], example.record["target"]
    multi_label = np.ndim(target) > 0
    if not multi_label:
        names = [f"label: {class_names[int(true)]}", f"target: {class_names[int(target)]}"]
        return Panel(
            title=[Line("Original", INK, bold=True)],
            image=_channels_last(original),
            below_image=[Line(name, INK) for name in names],
        )
    before = [Line(class_names[index], INK) for index in label_indices(true)]
    return Panel(
        title=[Line("Original", INK, bold=True)],
        image=_channels_last(original),
        note=[Line("before", INK, bold=True), *(before or [Line("no label", GREY)])],
        heading="target",
        labels=label_lines(true, target, class_names),
    )


def _attack_panel(example: Example, original: NDArray[np.float32], class_names: list[str]) -> Panel:
    record = example.record
    perturbation = example.adversarial() - original
    _check_distance(example, perturbation)
    picture, scale = perturbation_picture(perturbation)
    multi_label = np.ndim(record["target"]) > 0
    decided = [] if multi_label else [Line(f"decision: {class_names[int(record['prediction'])]}", INK)]
    return Panel(
        title=_title(example),
        image=_channels_last(example.adversarial()),
        failed=not example.success,
        below_image=decided + _outcome(example),
        perturbation=_channels_last(picture),
        below_perturbation=[
            Line(f"perturbation \N{MULTIPLICATION SIGN}\u00a0{significant(scale, 2)}", INK),
            Line(f"L2 {significant(float(record['l2']))}", INK),
            Line(f"MSE {scientific(float(record['mse']))}", INK),
            Line(f"{significant(float(record['seconds']), 2)} s", INK),
        ],
        heading="after" if multi_label else "",
        labels=label_lines(record["true_label"], record["prediction"], class_names) if multi_label else [],
    )


def _title(example: Example) -> list[Line]:
    """The attack's name in bold, what stands in brackets after it and the mark of a cut budget below."""
    name, bracket, rest = example.label.partition(" (")
    lines = [Line(name, INK, bold=True)]
    if bracket:
        # Parameters as '(1e-4, 5, 100)' stay on one line.
        keep = not any(character.isalpha() and character != "e" for character in rest)
        lines.append(Line("(" + (rest.replace(" ", "\u00a0") if keep else rest), INK))
    return [*lines, Line("budget cut", GREY)] if example.cut else lines


def _outcome(example: Example) -> list[Line]:
    record = example.record
    multi_label = np.ndim(record["target"]) > 0
    if example.success:
        return [Line("target reached", INK)] if multi_label else []
    lines = [Line(f"failed: {str(record['status']).replace('_', ' ')}", RED)]
    if multi_label:
        lines.append(Line(f"{record['bits_equal']} of {record['bits_total']} labels right", RED))
    return lines


def _check_distance(example: Example, perturbation: NDArray[np.floating[Any]]) -> None:
    """Images, records and data belong together only if the distance is the recorded one."""
    measured, recorded = float(np.linalg.norm(perturbation)), float(example.record["l2"])
    if abs(measured - recorded) > _TOLERANCE * max(recorded, 1e-3):
        raise ValueError(
            f"{example.folder}: image {example.record['image_id']!r} lies {measured:.4g} from the original, its record "
            f"says {recorded:.4g}: the attacks were run on other data, run them again"
        )


def _channels_last(image: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.clip(np.moveaxis(image, 0, -1), 0, 1)
