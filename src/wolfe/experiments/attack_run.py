"""An attack run: the attacks of a table over a set of images, shard by shard, through the store."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from wolfe.attacks import Attack, Context, build
from wolfe.classifier import Classifier, ready_for_attack
from wolfe.data.image_set import ImageSet, open_split
from wolfe.experiments.not_finite import attack_finite
from wolfe.experiments.part import WHOLE, Part
from wolfe.experiments.records import make_records
from wolfe.experiments.references import References
from wolfe.experiments.step_trace import StepTrace
from wolfe.experiments.store import Store
from wolfe.experiments.targets import read_targets
from wolfe.experiments.trace import JacobianTrace
from wolfe.files import atomic_path, sha256, write_json
from wolfe.fingerprint import code_fingerprint
from wolfe.linear.memory import in_memory
from wolfe.models.folding import for_attack
from wolfe.models.portions import Portions
from wolfe.models.storage import CALIBRATION, DESCRIPTION, WEIGHTS, load_classifier
from wolfe.provenance import Run, begin_run, checksums, device_name, entry_checksum

RECORDS, ADVERSARIALS, RUN = "records.parquet", "adversarials.safetensors", "run.json"
TRACE = "trace.parquet"
# Rows of the Jacobian that are worked out before the clock counts.
_WARM_ROWS = 16


@dataclass(frozen=True)
class _Bench:
    """What every row of a run shares."""

    classifier: Classifier
    test: ImageSet
    training: ImageSet
    targets: pd.DataFrame
    positions: dict[str, int]
    depends_on: dict[str, Any]
    seed: int
    batch_size: int
    quiet: bool
    run: Run


def run_attacks(
    model: Path,
    targets: Path,
    data: Path,
    rows: list[dict[str, Any]],
    out: Path,
    store: Path,
    seed: int,
    device: str,
    shard_size: int = 32,
    batch_size: int = 32,
    quiet: bool | None = None,
    time_limit: float | None = None,
    part: Part | None = None,
) -> None:
    """Runs attack rows on all images of a target file, and writes records, images and a manifest for each.

    Finished shards are kept in the store and never repeated while what they depend on stays the same: weights,
    data, targets, the row, seed, batch size, limits, device and the code that is used.

    Args:
        model: folder of a trained model.
        targets: parquet file of images and targets.
        data: folder of the data set.
        rows: each {"slug", "attack", "parameters"}, "images" where only the first so many are attacked, and "trace"
            where what is observed at every step is to be kept (`trace.parquet`): "jacobian" for its rank, "steps" for
            what an attack along a gradient goes through; results go to `out/slug/`.
        out: folder of the runs; with a part, the JSON file that lists its shards in the store.
        store: folder of finished shards.
        seed: the study's.
        device: "cpu" or "cuda".
        shard_size: images in a shard.
        batch_size: images attacked together; in a larger shard waiting images follow finished ones. Where the device's
            memory does not hold so many, half as many are tried, and so on; the records say how many it were.
        quiet: no progress bar; None: only where there is no terminal.
        time_limit: seconds that an attack may take on an image, for rows that set none themselves.
        part: attacks with this part of every row's shards only and leaves them in the store; a run without one then
            finds them there. None: all shards, put together.

    Raises:
        ValueError: an unknown attack, parameter or value (before any work), or damaged input.
    """
    read = [targets, *(Path(model) / name for name in (WEIGHTS, DESCRIPTION, CALIBRATION))]
    run = begin_run("attack", inputs=read, data=data, seed=seed)
    limit = {"time_limit": time_limit}
    attacks = [build({"attack": row["attack"], **limit, **row["parameters"]}) for row in map(_checked_row, rows)]
    bench = _prepare(model, targets, data, seed, device, batch_size, quiet, run)
    _warm_up(bench)
    listed = {}
    for row, attack in zip(rows, attacks, strict=True):
        folder = None if part else Path(out) / row["slug"]
        pieces = _run_row(bench, row, attack, folder, Store(store), shard_size, part or WHOLE)
        listed[row["slug"]] = [piece.relative_to(store).as_posix() for piece in pieces]
    if part:
        write_json(Path(out), {"part": part.number, "parts": part.parts, "pieces": listed})


def _checked_row(row: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in ("slug", "attack", "parameters") if key not in row]
    if missing:
        raise ValueError(f"row {row!r} lacks {missing[0]!r}: a row has slug, attack and parameters")
    # It becomes a folder, which must not be somewhere else.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}", str(row["slug"])):
        raise ValueError(f"slug {row['slug']!r} must be letters, digits and the signs _ . - alone")
    if row.get("trace") not in (None, "jacobian", "steps"):
        raise ValueError(f"row {row['slug']!r}: trace must be jacobian or steps, not {row['trace']!r}")
    if not isinstance(row["parameters"], dict):
        raise ValueError(f"row {row['slug']!r}: parameters must be a map, not {row['parameters']!r}")
    return row


def _prepare(
    model: Path, targets: Path, data: Path, seed: int, device: str, batch_size: int, quiet: bool | None, run: Run
) -> _Bench:
    test = open_split(data, "test")
    classifier = load_classifier(model, device)
    return _Bench(
        classifier=for_attack(classifier, test.images(range(min(batch_size, len(test)))).to(classifier.device)),
        test=test,
        training=open_split(data, "train"),
        targets=read_targets(targets),
        positions={name: position for position, name in enumerate(test.ids)},
        depends_on={
            "weights": sha256(Path(model) / "weights.safetensors"),
            "classifier": sha256(Path(model) / "classifier.json"),
            "calibration": _checksum(Path(model) / CALIBRATION),
            "data": sha256(Path(data) / "card.json"),
            "targets": sha256(targets),
            "seed": seed,
            "device": torch.device(device).type,
            "batch_size": batch_size,
        },
        seed=seed,
        batch_size=batch_size,
        quiet=not sys.stderr.isatty() if quiet is None else quiet,
        run=run,
    )


def _checksum(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _warm_up(bench: _Bench) -> None:
    """One pass before the clock counts: libraries choose their kernels at the first call."""
    images = bench.test.images(range(min(bench.batch_size, len(bench.test)))).to(bench.classifier.device)

    def some_rows(size: int) -> None:
        outputs = bench.classifier.encoding.size
        weights = images.new_zeros(size, min(_WARM_ROWS, outputs), outputs)
        bench.classifier.linearise(images[:size]).rows(weights)

    with ready_for_attack(bench.classifier):
        in_memory(some_rows, len(images))


def _run_row(
    bench: _Bench, row: dict[str, Any], attack: Attack, folder: Path | None, store: Store, shard_size: int, part: Part
) -> list[Path]:
    """The finished shards of a part of a row; put together in a folder, if there is one."""
    modules = (type(attack).__module__, "wolfe.experiments.attack_run")
    parameters = {**row["parameters"], "time_limit": attack.time_limit}
    trace = row.get("trace")
    # Shards of other sizes are other pieces of work; all images are what is usual.
    fewer = {"images": row["images"]} if row.get("images") else {}
    key = store.key(
        attack=row["attack"],
        parameters=parameters,
        trace=trace,
        shard=shard_size,
        code=code_fingerprint(*modules),
        **fewer,
        **bench.depends_on,
    )
    targets = bench.targets[: row.get("images")]
    shards = [targets[i : i + shard_size] for i in range(0, len(targets), shard_size)]
    chosen = {number: shards[number] for number in part.positions(len(shards))}
    pieces, portions = [], Portions()
    with tqdm(total=sum(map(len, chosen.values())), desc=row["slug"], unit="image", disable=bench.quiet) as bar:
        for number, shard in chosen.items():
            make = _shard_maker(bench, attack, shard, trace, bar, portions)
            piece, made = store.piece(key, f"shard-{number:04d}", make)
            pieces.append(piece)
            bar.update(0 if made else len(shard))
    if folder:
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            _assemble(pieces, temporary, trace)
            _write_manifest(bench, {**row, "parameters": parameters}, temporary, key, modules)
    return pieces


def _shard_maker(
    bench: _Bench, attack: Attack, shard: pd.DataFrame, trace: str | None, bar: Any, portions: Portions
) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        """Attacks the images of the shard and fills the folder."""

        def attacked(batch_size: int) -> tuple[pd.DataFrame, np.ndarray, JacobianTrace | StepTrace | None]:
            observer = _observer(bench, shard, trace)
            return *_attack_shard(bench, attack, shard, observer, _Finished(bar), batch_size), observer

        frame, adversarials, observer = portions.fitting(attacked, min(bench.batch_size, len(shard)))
        frame.to_parquet(folder / RECORDS, index=False)
        save_file({"adversarials": adversarials}, folder / ADVERSARIALS)
        if observer:
            observer.frame().to_parquet(folder / TRACE, index=False)

    return make


def _observer(bench: _Bench, shard: pd.DataFrame, trace: str | None) -> JacobianTrace | StepTrace | None:
    """What writes down the steps of a shard's attack, if anything does."""
    image_ids = shard["image_id"].tolist()
    if trace == "steps":
        initial = _labels(shard["prediction"])
        return StepTrace(image_ids, _pictures(bench, image_ids), initial, _labels(shard["target"]))
    return JacobianTrace(image_ids) if trace == "jacobian" else None


def _pictures(bench: _Bench, image_ids: list[str]) -> Tensor:
    """The images (B, C, H, W) of some names.

    Raises:
        ValueError: the test split lacks one.
    """
    missing = [name for name in image_ids if name not in bench.positions]
    if missing:
        raise ValueError(f"targets name images that the test split lacks, e.g. {missing[0]}: make the targets again")
    return bench.test.images([bench.positions[name] for name in image_ids])


class _Finished:
    """Moves a bar by the images of a shard that have finished since it was last told.

    Args:
        bar: the run's.
    """

    def __init__(self, bar: Any) -> None:
        self._bar, self._known = bar, 0

    def __call__(self, finished: int, images: int) -> None:  # noqa: ARG002 (progress tells both)
        """Takes the number of finished images."""
        self._bar.update(finished - self._known)
        self._known = finished


def _attack_shard(
    bench: _Bench,
    attack: Attack,
    shard: pd.DataFrame,
    observer: JacobianTrace | StepTrace | None,
    progress: _Finished,
    size: int,
) -> tuple[pd.DataFrame, np.ndarray]:
    image_ids = shard["image_id"].tolist()
    images = _pictures(bench, image_ids)
    labels, targets = _labels(shard["true_label"]), _labels(shard["target"])
    references = None
    if "reference_logits" in attack.requires:
        samples = getattr(attack, "samples", None)
        references = References(bench.classifier, bench.training, bench.seed, samples)(targets)
    context = Context(
        image_ids=image_ids,
        seed=bench.seed,
        labels=labels,
        reference_logits=references,
        observer=observer,
        label_graph=bench.test.label_graph,
    )
    result = attack_finite(attack, bench.classifier, images, targets, context, progress, size)
    frame = make_records(bench.classifier, image_ids, images, labels, targets, result, bench.test.label_graph, size)
    return frame, result.adversarials.cpu().numpy()


def _labels(column: pd.Series) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(value, dtype=np.int64) for value in column]))


def _assemble(pieces: list[Path], folder: Path, trace: str | None) -> None:
    for name in (RECORDS, TRACE) if trace else (RECORDS,):
        frames = [pd.read_parquet(piece / name) for piece in pieces]
        pd.concat(frames, ignore_index=True).to_parquet(folder / name, index=False)
    images = [load_file(piece / ADVERSARIALS)["adversarials"] for piece in pieces]
    save_file({"adversarials": np.concatenate(images)}, folder / ADVERSARIALS)


def _write_manifest(bench: _Bench, row: dict[str, Any], folder: Path, key: str, modules: tuple[str, ...]) -> None:
    """Writes `run.json`; its seconds are those of the images, whenever they were attacked."""
    records = pd.read_parquet(folder / RECORDS)
    together = records["batch_size"].value_counts().sort_index()
    bench.run.write(
        folder / RUN,
        checksums(sorted(folder.iterdir())),
        modules,
        entry=entry_checksum(row),
        attack=row["attack"],
        parameters=row["parameters"],
        images=len(records),
        seconds=float(records["seconds"].sum()),
        batch_size=bench.batch_size,
        # Fewer than asked for where memory did not hold them.
        attacked_together={str(size): int(images) for size, images in together.items()},
        device=device_name(bench.classifier.device),
        store_key=key,
        depends_on=bench.depends_on,
    )
