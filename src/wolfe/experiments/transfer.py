"""Transfer: what other classifiers say of the images that finished attack runs have left.

Nothing is attacked again. Runs, images and classifiers are read, verified and held against each other before the
first forward pass; the runs' own classifiers are known by the checksum of their weights and are not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from wolfe.classifier import Classifier, ready_for_attack
from wolfe.data.image_set import ImageSet, open_split
from wolfe.experiments.attack_run import ADVERSARIALS, RECORDS, RUN
from wolfe.experiments.transfer_checks import check_pairs, checked_models, checked_runs, own_weights, run_name
from wolfe.experiments.transfer_verdicts import judged, shuffled
from wolfe.files import atomic_path, sha256
from wolfe.metrics import eight_bit
from wolfe.models.portions import Portions
from wolfe.models.storage import DESCRIPTION, WEIGHTS, load_classifier
from wolfe.provenance import Run, begin_run, checksums, device_name
from wolfe.reading.tensors import read_array
from wolfe.report.records import RowRecords


@dataclass(frozen=True)
class _Judge:
    """A classifier that is asked, and what it said of the images before any attack (image's name to logits (n,))."""

    name: str
    weights: str
    classifier: Classifier
    clean: dict[str, Tensor]
    portions: Portions = field(default_factory=Portions)


def write_transfer(
    runs: Sequence[Path], models: Sequence[Path], data: Path, out: Path, device: str, batch_size: int = 128
) -> None:
    """Asks each classifier for its decision on each image of each run: as it is, rounded to 8 bits, and shuffled.

    Args:
        runs: folders of finished attack runs, `attacks/<model>/<target rule>/<slug>`.
        models: folders of trained classifiers with the labels of the data set; those of the runs may be among them.
        data: folder of the data set that the runs attacked.
        out: a folder for `records.parquet` (one row for each image, run and classifier other than the run's own; see
            `judged`) and `run.json` with its checksum.
        device: "cpu" or "cuda".
        batch_size: images in a forward pass.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, a run is empty or of another data set, labels differ, or there is no other
            classifier to ask. All of this is found before the work.
    """
    read = [Path(folder) / name for folder in runs for name in (RECORDS, ADVERSARIALS)]
    read += [Path(folder) / name for folder in models for name in (WEIGHTS, DESCRIPTION)]
    run = begin_run("transfer", inputs=read, data=data)
    rows = checked_runs(runs, data)
    descriptions = checked_models(models, data)
    check_pairs(rows, descriptions)
    with ExitStack() as ready:
        judges = [_Judge(folder.name, weights, load_classifier(folder, device), {}) for folder, weights in descriptions]
        for judge in judges:
            ready.enter_context(ready_for_attack(judge.classifier))
        originals = _Originals(open_split(data, "test"))
        _look_at_originals(judges, rows, originals, batch_size)
        frames = [frame for row in rows for frame in _judged_run(row, originals, judges, batch_size)]
    content = {
        "runs": {run_name(row.folder): sha256(row.folder / RUN) for row in rows},
        "classifiers": {judge.name: judge.weights for judge in judges},
        "data": sha256(Path(data) / "card.json"),
        "batch_size": batch_size,
        "device": device_name(judges[0].classifier.device),
    }
    _write(pd.concat(frames, ignore_index=True), run, content, Path(out))


def _write(records: pd.DataFrame, run: Run, content: dict[str, Any], out: Path) -> None:
    """Writes the records and the manifest with their checksum, both or none."""
    with atomic_path(out) as temporary:
        temporary.mkdir()
        records.to_parquet(temporary / RECORDS, index=False)
        run.write(temporary / RUN, checksums([temporary / RECORDS]), ["wolfe.experiments.transfer"], **content)


class _Originals:
    """The images before any attack, by name.

    Args:
        images: the split that was attacked.
    """

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._positions = {name: position for position, name in enumerate(images.ids)}

    def __call__(self, names: Sequence[str]) -> Tensor:
        """The images (B, C, H, W).

        Raises:
            ValueError: one of them is not there.
        """
        missing = [name for name in names if name not in self._positions]
        if missing:
            raise ValueError(f"the runs name images that the test split lacks, e.g. {missing[0]}: run them again")
        return self._images.images([self._positions[name] for name in names])


def _look_at_originals(
    judges: Sequence[_Judge], rows: Sequence[RowRecords], originals: _Originals, batch_size: int
) -> None:
    """Fills in what every classifier says of the images before the attacks, each image once."""
    names = sorted({name for row in rows for name in _image_names(row)})
    for begin in range(0, len(names), batch_size):
        part = names[begin : begin + batch_size]
        pictures = originals(part)
        for judge in judges:
            judge.clean.update(zip(part, _logits(judge, pictures, batch_size), strict=True))


def _image_names(row: RowRecords) -> list[str]:
    return [str(name) for name in row.records["image_id"]]


@torch.no_grad()
def _logits(judge: _Judge, images: Tensor, batch_size: int) -> Tensor:
    """Logits (B, n), on the CPU, of images (B, C, H, W), batch by batch, or less where memory does not hold so many."""
    asked, device = judge.portions.joined, judge.classifier.device
    return torch.cat([asked(judge.classifier, part.to(device)).cpu() for part in images.split(batch_size)])


def _judged_run(
    row: RowRecords, originals: _Originals, judges: Sequence[_Judge], batch_size: int
) -> list[pd.DataFrame]:
    """What each classifier but the run's own says of a run's images."""
    names = _image_names(row)
    images = read_array(row.folder / ADVERSARIALS, "adversarials")
    if len(images) != len(row.records):
        raise ValueError(f"{row.folder} holds {len(images)} images and {len(row.records)} records: run it again")
    after = torch.from_numpy(images)
    noise = shuffled(originals(names), after, names)
    pictures = {"": after, "_8bit": torch.from_numpy(eight_bit(images)), "_shuffled": noise}
    frames = []
    for judge in judges:
        if judge.weights != own_weights(row):
            clean = torch.stack([judge.clean[name] for name in names])
            seen = {kind: _logits(judge, part, batch_size) for kind, part in pictures.items()}
            verdicts = judged(judge.classifier.encoding, row.records, clean, seen)
            frames.append(pd.concat([_named(row, judge.name), verdicts], axis=1))
    return frames


def _named(row: RowRecords, classifier: str) -> pd.DataFrame:
    """What of a run's records belongs to a verdict: which image, run and classifier, and how the attack ended."""
    records = row.records
    place = {"source": row.folder.parent.parent.name, "targets": row.folder.parent.name, "slug": row.slug}
    return pd.DataFrame(
        {
            **{name: records[name] for name in ("image_id", "true_label", "target")},
            **place,
            "attack": row.run["attack"],
            "classifier": classifier,
            "l2": records["l2"],
            "source_success": records["success"],
            "source_success_8bit": records["success_8bit"],
        }
    )
