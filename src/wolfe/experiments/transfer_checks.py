"""What must hold before other classifiers are asked about attacked images: runs, data and labels belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from wolfe.data.image_set import load_card
from wolfe.files import sha256
from wolfe.models.storage import DESCRIPTION, load_description
from wolfe.report.records import RowRecords, read_row
from wolfe.report.summary import is_multi_label


def checked_runs(runs: Sequence[Path], data: Path) -> list[RowRecords]:
    """The runs, verified, once they are known to be of this data set and about labels of its kind."""
    if not runs:
        raise ValueError("no attack run was given: name at least one folder attacks/<model>/<target rule>/<slug>")
    _check_distinct("attack run", [run_name(Path(folder).resolve()) for folder in runs])
    expected, multi_label = sha256(Path(data) / "card.json"), load_card(data)["task"] == "multi"
    rows = []
    for folder in runs:
        row = read_row(Path(folder).resolve())
        if row.run.get("depends_on", {}).get("data") != expected:
            raise ValueError(f"{folder} did not attack the images of {data}: give the data set of this run")
        if is_multi_label(row.records) != multi_label:
            raise ValueError(f"{folder} has labels of another kind than {data}: run this attack again")
        rows.append(row)
    return rows


def checked_models(models: Sequence[Path], data: Path) -> list[tuple[Path, str]]:
    """Folders of the classifiers and checksums of their weights, once all decide about the data set's labels."""
    if not models:
        raise ValueError("no classifier was given: name the folder of at least one trained model")
    folders = [Path(folder).resolve() for folder in models]
    _check_distinct("classifier", [folder.name for folder in folders])
    card, found = load_card(data), []
    for folder in folders:
        description = load_description(folder)
        multi_label = description["encoding"].get("kind") == "multi_label"
        if description.get("class_names") != card["class_names"] or multi_label != (card["task"] == "multi"):
            raise ValueError(f"{folder / DESCRIPTION} has other labels than {data}: transfer needs the same ones")
        if list(description["image_shape"]) != list(card["image_shape"]):
            shapes = f"{description['image_shape']}, not {card['image_shape']}"
            raise ValueError(f"{folder / DESCRIPTION} takes images of shape {shapes} as in {data}")
        found.append((folder, str(description["weights_sha256"])))
    return found


def _check_distinct(noun: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the {noun} {name!r} is given twice: results could not be told apart")
        seen.add(name)


def check_pairs(rows: Sequence[RowRecords], descriptions: Sequence[tuple[Path, str]]) -> None:
    """Refuses runs that no other classifier could be asked about."""
    for row in rows:
        if all(weights == own_weights(row) for _, weights in descriptions):
            raise ValueError(f"{row.folder} attacked the only classifier that was given: name another one to ask")


def run_name(folder: Path) -> str:
    """What an attack run is called: the attacked model, the target rule and the slug of its row."""
    return "/".join(folder.parts[-3:])


def own_weights(row: RowRecords) -> str:
    """The checksum of the weights that a run attacked."""
    return str(row.run["depends_on"].get("weights"))
