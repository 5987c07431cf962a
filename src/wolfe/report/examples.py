"""Which image a figure of examples shows, and how each attack fared on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from wolfe.report.records import RowRecords, label_indices, read_row
from wolfe.report.summary import row_label
from wolfe.report.words import listed, target_rule


@dataclass(frozen=True)
class Example:
    """One attack on the chosen image.

    Attributes:
        label: the row's name as printed.
        cut: whether the row ran with less than its published budget.
        record: the image's record under this attack.
        position: its place in the row's files.
        folder: the row's files.
    """

    label: str
    cut: bool
    record: Mapping[str, Any]
    position: int
    folder: Path

    @property
    def success(self) -> bool:
        """Whether the attack reached its target."""
        return bool(self.record["success"])

    def adversarial(self) -> NDArray[np.float32]:
        """The attacked image (C, H, W) in [0, 1].

        Raises:
            ValueError: the file of images is damaged or too short.
        """
        path = self.folder / "adversarials.safetensors"
        try:
            with safe_open(path, framework="np") as file:
                images = file.get_slice("adversarials")
                if self.position >= images.get_shape()[0]:
                    raise ValueError(f"{path} holds fewer images than there are records: delete it and run again")
                return np.asarray(images[self.position : self.position + 1][0], dtype=np.float32)
        except SafetensorError as error:
            raise ValueError(f"{path} is no readable safetensors file ({error}): delete it and run again") from error


def select_examples(spec: Mapping[str, Any], attacks: Path) -> list[Example]:
    """One example of each attack on one image.

    The image is the one asked for, else the one on which most of the attacks succeed (of equals the one whose name
    sorts first). Without `rows` each attack is shown by its best row on that image: a success with the smallest L2.

    Args:
        spec: the figure: `table` (resolved), `rows` (slugs or nothing), `image` (a name or nothing).
        attacks: the folder that holds one folder a slug.

    Returns:
        The examples in the order of the table or of `rows`.

    Raises:
        FileNotFoundError: a row has not been run.
        ValueError: a slug or image is unknown, or a file is damaged.
    """
    groups = _groups(spec)
    results = {slug: read_row(Path(attacks) / slug) for slug in _slugs(groups)}
    image_id = str(spec["image"]) if spec.get("image") else _most_attacked(groups, results)
    for result in results.values():
        if image_id not in set(result.records["image_id"].astype(str)):
            raise ValueError(f"{result.folder / 'records.parquet'} holds no image {image_id!r}")
    candidates = [[_example(row, results[row["slug"]], image_id) for row in group] for group in groups]
    return [min(group, key=lambda one: (not one.success, float(one.record["l2"]))) for group in candidates]


def examples_caption(spec: Mapping[str, Any], examples: list[Example], class_names: list[str]) -> str:
    """A figure's caption.

    Args:
        spec: the figure.
        examples: what it shows.
        class_names: names of the labels.
    """
    record, table = examples[0].record, spec["table"]
    names = {key: _named(record[key], class_names) for key in ("true_label", "target")}
    found = sum(example.success for example in examples)
    chosen = "asked for in the study" if spec.get("image") else "the one on which most of these attacks succeed"
    best = "" if spec.get("rows") else " Each attack is shown by its row of the table that is nearest on this image."
    return (
        f"{str(spec['title']).rstrip('.')}. Image {record['image_id']} of {table['dataset']}, model {table['model']}; "
        f"before: {names['true_label']}; target ({target_rule(table)}): {names['target']}. The image is {chosen}: "
        f"{found} of {len(examples)} reach the target.{best} Below each attacked image stands its perturbation, "
        "enlarged by the factor printed, mid-grey where nothing changes; times are wall time per image in a batch."
    )


def _named(label: Any, class_names: list[str]) -> str:
    return listed([class_names[index] for index in label_indices(label)] or ["no label"])


def _groups(spec: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The table's rows that compete for one place in the figure: each slug alone, or all rows of an attack."""
    by_slug: dict[str, Mapping[str, Any]] = {}
    for row in spec["table"]["rows"]:
        by_slug.setdefault(row["slug"], row)
    if spec.get("rows"):
        unknown = [slug for slug in spec["rows"] if slug not in by_slug]
        if unknown:
            raise ValueError(f"figure {spec['name']!r}: no row {unknown[0]!r}; the table has {', '.join(by_slug)}")
        return [[by_slug[slug]] for slug in spec["rows"]]
    by_attack: dict[str, list[Mapping[str, Any]]] = {}
    for row in by_slug.values():
        by_attack.setdefault(row["attack"], []).append(row)
    return list(by_attack.values())


def _slugs(groups: list[list[Mapping[str, Any]]]) -> list[str]:
    return [row["slug"] for group in groups for row in group]


def _most_attacked(groups: list[list[Mapping[str, Any]]], results: Mapping[str, RowRecords]) -> str:
    """The image on which most groups hold a success."""
    counts: dict[str, int] = {}
    for group in groups:
        frames = [results[row["slug"]].records for row in group]
        won = {str(name) for frame in frames for name in frame.loc[frame["success"].astype(bool), "image_id"]}
        for name in {str(name) for frame in frames for name in frame["image_id"]}:
            counts[name] = counts.get(name, 0) + (name in won)
    return min(counts, key=lambda name: (-counts[name], name))


def _example(row: Mapping[str, Any], result: RowRecords, image_id: str) -> Example:
    names = result.records["image_id"].astype(str)
    position = int(np.flatnonzero((names == image_id).to_numpy())[0])
    record = {str(name): value for name, value in result.records.iloc[position].items()}
    return Example(row_label(row), bool(row["cut"]), record, position, result.folder)
