"""What reads a stranger's file, each with valid files to change and the errors that are documented."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.conftest import rewrite_run
from tests.fuzz import files
from tests.fuzz.mutations import (
    Change,
    changed_bytes,
    changed_json,
    changed_parquet,
    changed_png,
    changed_tensors,
    changed_yaml,
)
from wolfe.cli.options import read_spec
from wolfe.data.hub_files import open_parquet
from wolfe.data.hub_pictures import Pictures, Shape
from wolfe.data.hub_sets import HUB_SETS
from wolfe.data.image_set import load_card, open_split
from wolfe.data.writer import card_checksum
from wolfe.experiments.single import _read_picture
from wolfe.experiments.targets import read_targets
from wolfe.files import content_checksum
from wolfe.models.adopting import _tensors
from wolfe.models.storage import load_calibration, load_classifier
from wolfe.reading.tensors import read_array
from wolfe.report.published import read_published
from wolfe.report.records import read_rows, read_trace, verified_run
from wolfe.study import load_study

EXPECTED = (ValueError, FileNotFoundError)
"""What readers say of a file that is wrong; everything else is a crash."""


@dataclass(frozen=True)
class Reader:
    """Something that reads one kind of file.

    Attributes:
        name: for messages.
        valid: files that it reads.
        change: how they are damaged.
        read: reads the content of a file.
        share: how many inputs it gets beside the others; those that take long get few.
    """

    name: str
    valid: list[bytes]
    change: Change
    read: Callable[[bytes], object]
    share: float = 1.0


def all_readers(folder: Path) -> Iterator[Reader]:
    """Every reader, with a folder of its own.

    Args:
        folder: an empty one.
    """
    for make in (_of_studies, _of_pictures, _of_records, _of_tensors, _of_models, _of_data):
        yield from make(folder / make.__name__)


def _through_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of content that writes it to a file first."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def whole(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return whole


def _of_studies(folder: Path) -> Iterator[Reader]:
    yield Reader("study", [files.STUDY], changed_yaml, _through_file(folder / "study.yaml", load_study), 0.5)
    spec = _through_file(folder / "spec.yaml", lambda path: read_spec(str(path)))
    yield Reader("spec", [files.SPEC], changed_yaml, spec)
    yield Reader("spec_text", [files.SPEC], changed_json, _read_text)
    published = _through_file(folder / "published.csv", read_published)
    yield Reader("published", [files.PUBLISHED], changed_bytes, published)


def _read_text(content: bytes) -> object:
    text = content.decode(errors="replace")
    # Anything else would be the name of a file.
    return read_spec(text if text.lstrip()[:1] in ("{", "[") else f"[{text}")


def _of_pictures(folder: Path) -> Iterator[Reader]:
    own = _through_file(folder / "picture.png", lambda path: _read_picture(path, [3, 24, 16]))
    yield Reader("picture", files.pictures(), changed_png, own, 2)
    shape = Shape(channels=3, size=24, shorter_side=28, pad=1)
    published = Pictures(None, None, shape)._picture
    yield Reader("hub_picture", files.pictures(), changed_png, lambda content: published(("it", content)), 2)


def _of_records(folder: Path) -> Iterator[Reader]:
    """Records whose checksums are right: who writes the one writes the other."""

    def row(content: bytes) -> object:
        _write_run(folder / "row", {"records.parquet": content, "adversarials.safetensors": b""})
        return read_rows({"rows": [{"slug": "row"}]}, folder)

    def trace(content: bytes) -> object:
        _write_run(folder / "traced", {"trace.parquet": content})
        return read_trace(folder / "traced")

    yield Reader("records", files.records(), changed_parquet, row, 0.5)
    yield Reader("trace", [files.trace()], changed_parquet, trace, 0.5)
    targets = _through_file(folder / "targets.parquet", read_targets)
    yield Reader("targets", files.targets(), changed_parquet, targets, 0.5)
    run = json.dumps({"outputs": {"x": hashlib.sha256(b"x").hexdigest()}, "depends_on": {"weights": "y"}}).encode()
    (folder / "run").mkdir(parents=True, exist_ok=True)
    (folder / "run" / "x").write_bytes(b"x")
    verified = _through_file(folder / "run" / "run.json", _read_run)
    yield Reader("run", [run], changed_json, verified)


def _write_run(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    rewrite_run(folder, {"outputs": sums})


def _read_run(path: Path) -> object:
    """The run file, once its own checksum is right, as whoever wrote it would see to."""
    try:
        run = json.loads(path.read_bytes())
        path.write_text(json.dumps({**run, "sha256": content_checksum(run)}))
    except (AttributeError, ValueError, TypeError, RecursionError):
        pass
    return verified_run(path.parent, ["x"], "run")


def _of_tensors(folder: Path) -> Iterator[Reader]:
    attacked = _through_file(folder / "a.safetensors", lambda path: read_array(path, "adversarials"))
    yield Reader("adversarials", [files.adversarials()], changed_tensors, attacked, 2)
    published = _through_file(folder / "w.pth", _tensors)
    yield Reader("torch_weights", [files.weights_of_torch()], changed_bytes, published, 2)
    other = _through_file(folder / "w.safetensors", _tensors)
    yield Reader("weights_file", [files.adversarials()], changed_tensors, other)


def _of_models(folder: Path) -> Iterator[Reader]:
    """Classifiers whose description, weights or calibration were written by somebody else."""
    places = files.write_classifiers(folder / "valid")
    described = [(place / "classifier.json").read_bytes() for place in places]
    weights = [(place / "weights.safetensors").read_bytes() for place in places]
    model = folder / "model"

    def description(content: bytes) -> object:
        number = next((n for n, kind in enumerate((b"one_hot", b"codebook", b"multi_label")) if kind in content), 0)
        _write(model, {"classifier.json": content, "weights.safetensors": weights[number]})
        return load_classifier(model)

    def tensors(content: bytes) -> object:
        said = {**json.loads(described[0]), "weights_sha256": hashlib.sha256(content).hexdigest()}
        _write(model, {"classifier.json": json.dumps(said).encode(), "weights.safetensors": content})
        return load_classifier(model)

    yield Reader("description", described, changed_json, description, 0.1)
    yield Reader("weights", weights[:1], changed_tensors, tensors, 0.1)
    calibration = _through_file(folder / "measured" / "calibration.json", lambda path: load_calibration(path.parent))
    yield Reader("calibration", [files.CALIBRATION], changed_json, calibration)


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def _of_data(folder: Path) -> Iterator[Reader]:
    """Data sets whose cards have right checksums, and files of published sets."""
    places = files.write_datasets(folder / "valid")
    kept = cycle(places)
    card = _through_file(folder / "carded" / "card.json", lambda path: _read_card(path))
    yield Reader("card", [(place / "card.json").read_bytes() for place in places], changed_json, card)
    for place in places:
        table = next((place / "arrow" / "test").glob("*.arrow"))
        read = _of_split(place, folder / f"copy_{place.name}", table.relative_to(place))
        yield Reader(f"arrow_{place.name}", [table.read_bytes()], changed_bytes, read, 0.1)
    state = _of_split(next(kept), folder / "copy_state", Path("arrow/test/state.json"))
    yield Reader("arrow_state", [(places[0] / "arrow/test/state.json").read_bytes()], changed_json, state, 0.05)
    info = _of_split(places[0], folder / "copy_info", Path("arrow/test/dataset_info.json"))
    yield Reader("arrow_info", [(places[0] / "arrow/test/dataset_info.json").read_bytes()], changed_json, info, 0.05)
    hub = _through_file(folder / "hub" / "test-0.parquet", _read_hub)
    yield Reader("hub", [files.hub_table()], changed_parquet, hub, 0.3)


def _read_card(path: Path) -> object:
    """The card, once its own checksum is right, as whoever wrote it would see to."""
    try:
        card = json.loads(path.read_bytes())
        path.write_text(json.dumps({**card, "card_sha256": card_checksum(card)}))
    except (ValueError, TypeError, RecursionError):
        pass
    return load_card(path.parent)


def _of_split(place: Path, copy: Path, name: Path) -> Callable[[bytes], object]:
    """A reader of a data set of which one file is somebody else's."""
    shutil.copytree(place, copy, dirs_exist_ok=True)

    def read(content: bytes) -> object:
        (copy / name).write_bytes(content)
        card = json.loads((place / "card.json").read_bytes())
        card["checksums"][name.as_posix()] = hashlib.sha256(content).hexdigest()
        (copy / "card.json").write_text(json.dumps({**card, "card_sha256": card_checksum(card)}))
        split = open_split(copy, "test")
        return split.images(range(min(2, len(split)))), split.columns

    return read


def _read_hub(path: Path) -> object:
    table = open_parquet(HUB_SETS["gtsrb"], "test", [path], partial=True)
    shape = Shape(channels=3, size=24, shorter_side=24)
    return [picture.shape for picture in Pictures(table, range(len(table.labels)), shape)[:2]]
