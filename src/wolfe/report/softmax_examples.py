"""Draws an image and adversarial versions of it that the softmax misjudges (Ozbulak et al. 2018, Figures 1, 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wolfe.files import checked
from wolfe.reading.tensors import read_arrays
from wolfe.report.drawing import INK, Block, Line, Panel, draw_blocks
from wolfe.report.softmax_records import KINDS, PICTURES, read_softmax
from wolfe.report.words import listed, sentence, significant

_VERSIONS = 3


@dataclass(frozen=True)
class Shown:
    """What of a kind of examples is shown.

    Attributes:
        kind: of examples.
        source: the attacked model.
        image: the image's place among those whose pictures were kept.
        image_id: its name.
        lines: its records, one line a step, from 0.
        steps: 0 and the steps of the versions.
        how: how the versions were chosen, in words.
    """

    kind: str
    source: str
    image: int
    image_id: str
    lines: pd.DataFrame
    steps: list[int]
    how: str


def shown_kinds(spec: Mapping[str, Any]) -> list[str]:
    """The kinds of examples that a figure shows."""
    return list(KINDS) if spec["which"] == "both" else [spec["which"]]


def draw_examples(spec: Mapping[str, Any], results: Path) -> Figure:
    """An image as it came and three versions of it, with prediction, confidence and the highest logits.

    Args:
        spec: the figure: `experiment` and `which` ("over_optimised", "multi_class" or "both").
        results: `results/<study>`.

    Raises:
        FileNotFoundError: the experiment has not been run.
        ValueError: a file is damaged.
    """
    name = spec["experiment"]["name"]
    chosen, run = _chosen(spec, results)
    folder = Path(results) / "experiments" / name
    pictures = read_arrays(checked(folder / PICTURES, run["outputs"][PICTURES]))
    blocks = []
    for shown in chosen:
        images = pictures[f"{shown.kind}.{shown.source}"][shown.image]
        places = [run["shown"]["steps"].index(step) for step in shown.steps]
        panels = [
            _panel(shown, step, images[at], run["class_names"]) for step, at in zip(shown.steps, places, strict=True)
        ]
        blocks.append(Block(panels, KINDS[shown.kind] if len(chosen) > 1 else ""))
    return draw_blocks(blocks)


def _panel(shown: Shown, step: int, picture: NDArray[np.uint8], class_names: Sequence[str]) -> Panel:
    line = shown.lines.iloc[step]
    names = ("activation", "activation_2", "activation_3")[: 2 if shown.kind == "over_optimised" else 3]
    below = [
        Line(class_names[int(line["highest_class"])], INK, bold=True),
        Line(f"confidence {confidence(float(line['softmax']))}", INK),
        *(Line(f"CA{number} {significant(line[name])}", INK) for number, name in enumerate(names, start=1)),
        *([Line(f"L2 {significant(line['l2'])}", INK)] if step else []),
    ]
    title = [Line(f"Step {step}" if step else "Original", INK, bold=True)]
    return Panel(title=title, image=np.moveaxis(picture, 0, -1) / 255, below_image=below)


def confidence(value: float) -> str:
    """A softmax value: 1 only where it is exactly that, and how far from 1 it is where two digits do not tell."""
    if value == 1 or value <= 0.995:
        return "1" if value == 1 else f"{value:.2f}"
    mantissa, exponent = f"{1 - value:.0e}".split("e")
    return f"1 \N{MINUS SIGN} {mantissa}e{int(exponent)}"


def _chosen(spec: Mapping[str, Any], results: Path) -> tuple[list[Shown], Mapping[str, Any]]:
    records, run = read_softmax(results, spec["experiment"]["name"])
    source = str(spec["experiment"]["models"][-1])
    return [_of_kind(records, run, kind, source) for kind in shown_kinds(spec)], run


def _of_kind(records: pd.DataFrame, run: Mapping[str, Any], kind: str, source: str) -> Shown:
    """The first image, in the seed's order, that shows what its kind is about; else the first one that comes near."""
    part = records[(records["kind"] == kind) & (records["source"] == source)]
    kept_steps, images = run["shown"]["steps"][1:], run["shown"]["images"]
    fallback: Shown | None = None
    for place, image_id in enumerate(images):
        lines = part[part["image_id"] == image_id].reset_index(drop=True)
        steps = certain_steps(lines, kept_steps) if kind == "over_optimised" else falling_steps(lines, kept_steps)
        if steps:
            return Shown(kind, source, place, image_id, lines, [0, *steps], _HOW[kind])
        last = kept_steps[-_VERSIONS:]
        fallback = fallback or Shown(kind, source, place, image_id, lines, [0, *last], _HOW["none"])
    if fallback is None:
        raise ValueError("the experiment kept no pictures: run it again")
    return fallback


_HOW = {
    "over_optimised": "the first image, in the seed's order, with a softmax of exactly 1 at three of the steps whose "
    "pictures were kept; shown are the first and the last of these steps and the one between with the logit nearest to "
    "their geometric mean",
    "multi_class": "the first image, in the seed's order, whose confidence falls twice, above one half, while its "
    "highest logit rises, beyond that of the image as it came, between steps whose pictures were kept; shown are the "
    "three such steps with the largest rise of the logit",
    "none": "the first image of the seed's order, as none of those whose pictures were kept shows what the paper's "
    "does; shown are the last steps",
}


def _adversarial(lines: pd.DataFrame, steps: Sequence[int]) -> list[int]:
    """The steps at which the attacked model decides for a class asked for."""
    own = lines["highest_class"]
    there = ((own == lines["target"]) | (own == lines["second"])).to_numpy()
    return [step for step in steps if there[step]]


def certain_steps(lines: pd.DataFrame, steps: Sequence[int]) -> list[int]:
    """Three steps with a softmax of exactly 1, their logits far apart; none where there are fewer.

    Args:
        lines: an image's records, one line a step, from 0.
        steps: those to choose from.
    """
    softmax, logits = lines["softmax"].to_numpy(), lines["activation"].to_numpy()
    certain = [step for step in _adversarial(lines, steps) if softmax[step] == 1]
    if len(certain) < _VERSIONS:
        return []
    first, *between, last = certain
    wanted = np.sqrt(logits[first] * logits[last])
    return [first, min(between, key=lambda step: abs(logits[step] - wanted)), last]


def falling_steps(lines: pd.DataFrame, steps: Sequence[int]) -> list[int]:
    """Three steps along which the highest logit rises most while the softmax falls; none where it never does so.

    All are beyond the image as it came, whose highest logit they exceed, and above one half in softmax, where two
    classes cannot both be.

    Args:
        lines: an image's records, one line a step, from 0.
        steps: those to choose from.
    """
    softmax, logits = lines["softmax"].to_numpy(), lines["activation"].to_numpy()
    strong = [step for step in _adversarial(lines, steps) if logits[step] > logits[0] and softmax[step] > 0.5]
    falling = [
        three
        for three in combinations(strong, _VERSIONS)
        if (np.diff(softmax[list(three)]) < 0).all() and (np.diff(logits[list(three)]) > 0).all()
    ]
    growth = [logits[three[-1]] / logits[three[0]] for three in falling]
    return list(falling[int(np.argmax(growth))]) if falling else []


def caption_examples(spec: Mapping[str, Any], results: Path) -> str:
    """The caption of a figure of examples; arguments as of `draw_examples`."""
    chosen, run = _chosen(spec, results)
    names = run["class_names"]
    said = []
    for shown in chosen:
        first = shown.lines.iloc[0]
        classes = [names[int(first["target"])]] + ([names[int(first["second"])]] if first["second"] >= 0 else [])
        said.append(
            f"{KINDS[shown.kind]}: image {shown.image_id} of {spec['experiment']['dataset']}, attacked on "
            f"{shown.source} towards {listed(classes)}. It is {shown.how}."
        )
    return " ".join(
        [
            sentence(str(spec["title"])),
            "The image as it came and three versions in whole grey levels, with the attacked model's prediction, its "
            "confidence (softmax in single precision) and its highest logits, CA1 the largest.",
            *said,
            f"Pictures of {len(run['shown']['images'])} images at {len(run['shown']['steps'])} steps were kept.",
        ]
    )
