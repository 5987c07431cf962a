"""Which images a figure of examples shows, and how each attack fared on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wolfe.reading.tensors import opened_tensors
from wolfe.report.records import RowRecords, attacks_of, label_indices, read_row
from wolfe.report.summary import row_label
from wolfe.report.words import listed, sentence, stands_in, table_name, target_rule


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
        with opened_tensors(path) as file:
            images = file.get_slice("adversarials")
            if len(images.get_shape()) != 4 or self.position >= images.get_shape()[0]:
                raise ValueError(f"{path} holds fewer images than there are records: delete it and run again")
            return np.asarray(images[self.position : self.position + 1][0], dtype=np.float32)


def select_parts(parts: Sequence[Mapping[str, Any]], results: Path) -> list[list[list[Example]]]:
    """The examples of all parts of a figure; no picture of a data set is chosen twice.

    Args:
        parts: see `select_examples`.
        results: `results/<study>`.
    """
    shown: dict[str, set[str]] = {}
    chosen = []
    for part in parts:
        table = part["table"]
        seen = shown.setdefault(table["dataset"], set())
        examples = select_examples(part, attacks_of(table, results), frozenset(seen))
        seen |= {str(image[0].record["image_id"]) for image in examples}
        chosen.append(examples)
    return chosen


def select_examples(part: Mapping[str, Any], attacks: Path, shown: frozenset[str] = frozenset()) -> list[list[Example]]:
    """One example of each attack on each image of a part of a figure.

    The images are the one asked for, if any, and then those on which most of the attacks succeed (of equals the one
    whose name sorts first). Without `rows` each attack is shown by its best row on that image: a success with the
    smallest L2.

    Args:
        part: `table` (resolved), `rows` (slugs or nothing), `image` (a name or nothing), `images` (how many, 1 if left
            out).
        attacks: the folder that holds one folder a slug.
        shown: images that are shown already: they come last.

    Returns:
        For each image the examples in the order of the table or of `rows`.

    Raises:
        FileNotFoundError: a row has not been run.
        ValueError: a slug or image is unknown, there are fewer images than asked for, or a file is damaged.
    """
    groups = _groups(part)
    results = {slug: read_row(Path(attacks) / slug) for slug in _slugs(groups)}
    ranked = sorted(_by_successes(groups, results), key=shown.__contains__)
    wanted = int(part.get("images") or 1)
    asked = [str(part["image"])] if part.get("image") else []
    chosen = [*asked, *(name for name in ranked if name not in asked)][:wanted]
    for result in results.values():
        absent = [name for name in chosen if name not in set(result.records["image_id"].astype(str))]
        if absent:
            raise ValueError(f"{result.folder / 'records.parquet'} holds no image {absent[0]!r}")
    if len(chosen) < wanted:
        raise ValueError(f"table {part['table']['name']!r} has {len(chosen)} images, but a figure asks for {wanted}")
    return [_examples_on(image_id, groups, results) for image_id in chosen]


def _examples_on(
    image_id: str, groups: list[list[Mapping[str, Any]]], results: Mapping[str, RowRecords]
) -> list[Example]:
    candidates = [[_example(row, results[row["slug"]], image_id) for row in group] for group in groups]
    return [min(group, key=lambda one: (not one.success, float(one.record["l2"]))) for group in candidates]


def examples_caption(spec: Mapping[str, Any], parts: list[list[list[Example]]], class_names: list[list[str]]) -> str:
    """A figure's caption.

    Args:
        spec: the figure, with `parts`.
        parts: what each part shows.
        class_names: names of the labels of each part's data set.
    """
    several = len(parts) > 1
    whole = zip(spec["parts"], parts, class_names, strict=True)
    says = [_part_caption(part, images, names, several) for part, images, names in whole]
    best = any(not part.get("rows") for part in spec["parts"])
    nearest = " Each attack is shown by its row of the table that is nearest on this image." if best else ""
    return (
        f"{sentence(str(spec['title']))} {' '.join(says)}{nearest} Below each attacked image stands its perturbation, "
        "enlarged by the factor printed, mid-grey where nothing changes; times are wall time per image in a batch."
    )


def _part_caption(part: Mapping[str, Any], images: list[list[Example]], class_names: list[str], several: bool) -> str:
    table = part["table"]
    records = [examples[0].record for examples in images]
    about = [
        f"image {record['image_id']}, before: {_named(record['true_label'], class_names)}; target: "
        f"{_named(record['target'], class_names)}"
        for record in records
    ]
    found = sum(example.success for examples in images for example in examples)
    shown = sum(len(examples) for examples in images)
    head = f"{table_name(table['name'])}: " if several else ""
    stand_in = f" {stands_in(str(table.get('stands_in') or ''))}".rstrip()
    text = (
        f"{head}{table['dataset']}, model {table['model']}, target: {target_rule(table)}; {'; '.join(about)}. "
        f"{_how_chosen(part, len(images))}: {found} of {shown} reach the target.{stand_in}"
    )
    return text[0].upper() + text[1:]


def _how_chosen(part: Mapping[str, Any], images: int) -> str:
    attacked = [row.get("images") or part["table"]["images"] for group in _groups(part) for row in group]
    among = f", of the first {min(attacked)} that every row has," if min(attacked) < max(attacked) else ""
    who, best = ("The images are", "those") if images > 1 else ("The image is", "the one")
    if not part.get("image"):
        return f"{who} {best}{among} on which most of these attacks succeed"
    return f"{who} asked for in the study" if images == 1 else "The first image is asked for in the study"


def _named(label: Any, class_names: list[str]) -> str:
    return listed([class_names[index] for index in label_indices(label)] or ["no label"])


def _groups(part: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
    """The table's rows that compete for one place in the figure: each slug alone, or all rows of an attack."""
    by_slug: dict[str, Mapping[str, Any]] = {}
    for row in part["table"]["rows"]:
        by_slug.setdefault(row["slug"], row)
    if part.get("rows"):
        unknown = [slug for slug in part["rows"] if slug not in by_slug]
        if unknown:
            raise ValueError(f"table {part['table']['name']!r} has no row {unknown[0]!r}; it has {', '.join(by_slug)}")
        return [[by_slug[slug]] for slug in part["rows"]]
    by_attack: dict[str, list[Mapping[str, Any]]] = {}
    for row in by_slug.values():
        by_attack.setdefault(row["attack"], []).append(row)
    return list(by_attack.values())


def _slugs(groups: list[list[Mapping[str, Any]]]) -> list[str]:
    return [row["slug"] for group in groups for row in group]


def _by_successes(groups: list[list[Mapping[str, Any]]], results: Mapping[str, RowRecords]) -> list[str]:
    """The images that every row has, those first on which most groups hold a success."""
    counts: dict[str, int] = {}
    everywhere = set.intersection(*({str(name) for name in result.records["image_id"]} for result in results.values()))
    for group in groups:
        frames = [results[row["slug"]].records for row in group]
        won = {str(name) for frame in frames for name in frame.loc[frame["success"].astype(bool), "image_id"]}
        for name in everywhere:
            counts[name] = counts.get(name, 0) + (name in won)
    return sorted(counts, key=lambda name: (-counts[name], name))


def _example(row: Mapping[str, Any], result: RowRecords, image_id: str) -> Example:
    names = result.records["image_id"].astype(str)
    position = int(np.flatnonzero((names == image_id).to_numpy())[0])
    record = {str(name): value for name, value in result.records.iloc[position].items()}
    return Example(row_label(row), bool(row["cut"]), record, position, result.folder)
