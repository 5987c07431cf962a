"""The stages of the small study as commands, and a server that forks a process for each."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wolfe.study import load_study

from .child import work

STUDY = Path(__file__).with_name("faults.yaml")
RESULTS = Path("results") / "faults"
# A process that hangs fails its test; it does not hang the suite.
PATIENCE = 120


@dataclass(frozen=True)
class Stage:
    """A stage of the study.

    Attributes:
        name: its name.
        arguments: of the command line, paths as seen from the study's working folder.
        made: the folders and files that it makes.
    """

    name: str
    arguments: tuple[str, ...]
    made: tuple[Path, ...]

    def forget(self, folder: Path) -> None:
        """Removes what it has made, and all kept pieces of work."""
        for path in (*self.made, RESULTS / "store"):
            place = folder / path
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; minus the signal's number where one ended it.
        text: what it said.
        seconds: how long it ran.
    """

    code: int
    text: str
    seconds: float


@cache
def stages() -> dict[str, Stage]:
    """The stages by name, in their order."""
    study = load_study(STUDY)
    (batch,) = study.batches
    data, model = RESULTS / "data" / batch.dataset, RESULTS / "models" / batch.model
    targets, attacks = RESULTS / "targets" / batch.model, RESULTS / "attacks" / batch.model / batch.targets
    table, figure = RESULTS / "tables" / "flips", RESULTS / "figures" / "shown"
    chosen, seed = targets / f"{batch.targets}.parquet", ("--seed", study.seed)
    on = ("--model", model, "--data", data, "--device", "cpu")
    store, limits = ("--store", RESULTS / "store"), study.limits
    sizes = ("--shard-size", limits["shard_size"], "--batch-size", limits["batch_size"])
    rule = study.targets[batch.model, batch.targets]
    train = ("train", batch.model, *_spec(study.models[batch.model]), "--data", data, "--out", model, "--device", "cpu")
    listed = (
        _stage("dataset", data, batch.dataset, *_spec(study.datasets[batch.dataset]), "--out", data, *seed),
        _stage("train", model, *train[1:], *store, *seed),
        _stage("targets", targets, *on, *_spec(rule), "--out", chosen, *seed),
        _stage("attack-run", attacks, *on, "--targets", chosen, "--rows", json.dumps(batch.rows), "--out", attacks,
               *store, *seed, *sizes),
        _stage("table", table.parent, *_spec(study.tables["flips"]), "--attacks", attacks, "--out", table),
        _stage("figure", figure.parent, *_spec(study.figures["shown"]), "--results", RESULTS, "--out", figure),
        _stage("verify", None, RESULTS),
    )  # fmt: skip
    return {stage.name: stage for stage in listed}


def _stage(name: str, made: Path | None, *arguments: object) -> Stage:
    return Stage(name, (name, *map(str, arguments)), (made,) if made else ())


def _spec(entry: Any) -> tuple[str, str]:
    return "--spec", json.dumps(entry)


class Server:
    """Forks a process, torch already loaded, for each command."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.child"])

    def run(
        self,
        folder: Path,
        arguments: tuple[str, ...],
        kill_after: float | None = None,
        write: int | None = None,
        rightless: bool = False,
    ) -> Ended:
        """Runs a command to its end.

        Args:
            folder: its working folder; what it says goes to a file beside it.
            arguments: of the command line.
            kill_after: seconds after which it is killed, if it still runs.
            write: which of its writes it does not survive; see `work`.
            rightless: permissions hold for it even where it is root's.
        """
        said = folder.with_name(f"{folder.name}.said.txt")
        process = self._context.Process(target=work, args=(folder, list(arguments), said, write, rightless))
        begin = time.perf_counter()
        process.start()
        process.join(PATIENCE if kill_after is None else kill_after)
        if process.is_alive():
            process.kill()
        process.join()
        ended = Ended(process.exitcode, said.read_text(errors="replace") if said.is_file() else "", 0.0)
        process.close()
        assert kill_after is not None or time.perf_counter() - begin < PATIENCE, f"{arguments[0]} hangs: {ended.text}"
        return Ended(ended.code, ended.text, time.perf_counter() - begin)
