"""What a stage says of its own run: `run.json` in the folder that it writes, `<name>.run.json` beside single files.

A run file names the command, its begin and end, the study, seed, device, code and packages, and the checksums of what
was read and written; `wolfe.verification` holds them against what is there. Nothing here changes what a stage finds,
so fingerprints of code do not look into this file.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wolfe.files import checked, content_checksum, read_json, sha256, write_json
from wolfe.fingerprint import code_fingerprint
from wolfe.study.roots import without_roots

if TYPE_CHECKING:
    import torch

RUN = "run.json"
STUDY_VARIABLE = "WOLFE_STUDY"
"""Tells jobs the checksum of their study; as an option it would run all of them again whenever the study changes."""
ELSEWHERE = ".../"
"""Stands for folders of this machine that are none of a reader's business."""

_PACKAGES = (
    *("torch", "torchvision", "timm", "torchmetrics", "lightning", "numpy", "scipy", "pandas", "pyarrow", "datasets"),
    *("safetensors", "scikit-image", "scikit-learn", "pillow", "matplotlib"),
)
_SUFFIXES = (".parquet", ".json", ".html", ".csv")
_ABSOLUTE = re.compile(r"""(^|=|["'])/([^"']*)(?=["']|$)""")


@dataclass(frozen=True)
class Run:
    """A stage at work; made by `begin_run`.

    Attributes:
        stage: its name.
        entry: the checksum of the study's entry that it was given.
        seed: of its random draws, where it has any.
        dataset: name, source, revision and checksums of its data set, where it has one.
        inputs: the files that it reads, with their checksums at its begin.
        started: when it began.
        clock: the same on a clock that is never set.
    """

    stage: str
    entry: str | None
    seed: int | None
    dataset: dict[str, Any]
    inputs: dict[Path, str]
    started: datetime
    clock: float

    def write(
        self,
        file: Path,
        outputs: Mapping[str, str],
        modules: Iterable[str],
        place: Path | None = None,
        **more: Any,
    ) -> None:
        """Writes the run file; the last thing that a stage does.

        Args:
            file: the run file, in the folder of the outputs.
            outputs: the files written, as seen from there, with their checksums; see `checksums`.
            modules: the stage's code, as `code_fingerprint` takes it.
            place: the folder in which the file will be read, where that is neither its own nor one beside it.
            more: further entries, which stand before those of the same name.
        """
        ended, folder = datetime.now(UTC), Path(place or Path(file).parent)
        said = {
            "stage": self.stage,
            "command": command(),
            "started": _written(self.started),
            "ended": _written(ended),
            "seconds": round(time.perf_counter() - self.clock, 3),
            "study": os.environ.get(STUDY_VARIABLE),
            "entry": self.entry,
            "seed": self.seed,
            "dataset": self.dataset,
            "modules": sorted(modules),
            "code": code_fingerprint(*modules),
            "versions": versions(),
            "device": device_name(None),
            "threads": threads(),
            "inputs": {_seen_from(folder, path): checksum for path, checksum in self.inputs.items()},
        }
        kept = {key: value for key, value in said.items() if value is not None and value != {}}
        content = {**kept, **more, "outputs": dict(outputs)}
        write_json(Path(file), content | {"sha256": content_checksum(content)})


def begin_run(
    stage: str,
    entry: Mapping[str, Any] | None = None,
    inputs: Iterable[Path] = (),
    data: Path | None = None,
    seed: int | None = None,
) -> Run:
    """Begins the run of a stage.

    Args:
        stage: its name, e.g. "table".
        entry: what the study says of it.
        inputs: the files that it reads; what is missing is left out, the stage itself says so.
        data: the folder of its data set, whose card is one more input.
        seed: of its random draws.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    files = [Path(file) for file in (*inputs, *([Path(data) / "card.json"] if data is not None else []))]
    known = {file: sha256(file) for file in dict.fromkeys(files) if file.is_file()}
    checksum = entry_checksum(entry) if entry is not None else None
    dataset = _dataset(data) if data is not None else {}
    return Run(stage, checksum, seed, dataset, known, started, clock)


def entry_checksum(entry: Mapping[str, Any]) -> str:
    """The checksum of an entry of a study, wherever its published files lie."""
    return content_checksum(without_roots(entry))


def is_signed(run: Mapping[str, Any]) -> bool:
    """Whether a run file is as it was written; one without a checksum is not, nobody can tell."""
    return run.get("sha256") == content_checksum(dict(run))


def checksums(files: Iterable[Path]) -> dict[str, str]:
    """The names of files, in their order, with their checksums."""
    return {file.name: sha256(file) for file in map(Path, files)}


def beside(path: Path) -> Path:
    """The run file of a single file, or of several that share the stem `path`."""
    path = Path(path)
    return path.with_name(f"{path.stem if path.suffix in _SUFFIXES else path.name}.{RUN}")


def check_written(path: Path) -> None:
    """Refuses a file that is not the one its run file tells of; a file of which none tells is anyone's own.

    Raises:
        ValueError: its checksum differs, or the run file does not parse.
    """
    path = Path(path)
    for file in (beside(path), path.with_name(RUN)):
        if path.is_file() and file.is_file():
            run = read_json(file)
            outputs = run.get("outputs") if isinstance(run, dict) else None
            if not isinstance(outputs, dict) or not is_signed(run):
                raise ValueError(
                    f"{file} is not the run file that was written: delete it and {path.name}, and run again"
                )
            if path.name in outputs:
                checked(path, outputs[path.name])


def command() -> str:
    """The command line as it was called, paths as seen from the working folder, others by their names."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *(_without_places(argument) for argument in sys.argv[1:])])


def device_name(device: torch.device | None) -> str:
    """What a reader wants to know of a device: the GPU's name, or the kind of processor and its threads."""
    if device is not None and device.type == "cuda":
        return str(sys.modules["torch"].cuda.get_device_name(device))
    return f"CPU ({platform.machine()}, {threads()} threads)"


def threads() -> int:
    """The threads of this process: torch's, or those that it may use where torch is not at work."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() else os.cpu_count() or 1


@cache
def versions() -> dict[str, str]:
    """Versions of what results depend on; packages that an environment does without are left out."""
    from wolfe import __version__

    found = {"python": platform.python_version(), "wolfe": __version__}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _without_places(argument: str) -> str:
    """An argument, JSON or not, in which no path begins at the root of this machine."""
    argument = argument.replace(f"{Path.cwd()}/", "")
    return _ABSOLUTE.sub(lambda found: f"{found[1]}{ELSEWHERE}{found[2].rstrip('/').rpartition('/')[2]}", argument)


def _seen_from(folder: Path, path: Path) -> str:
    """A file's path from a folder; of one outside the working folder, where that holds the folder, its name only."""
    work, folder, path = Path.cwd().resolve(), folder.resolve(), path.resolve()
    if folder.is_relative_to(work) and not path.is_relative_to(work):
        return f"{ELSEWHERE}{path.name}"
    return Path(os.path.relpath(path, folder)).as_posix()


def _dataset(folder: Path) -> dict[str, Any]:
    """What a data set's card says of its origin; nothing of one that is damaged, which the stage will refuse."""
    with suppress(OSError, ValueError, AttributeError):
        card = read_json(Path(folder) / "card.json")
        return {name: card[name] for name in ("name", "source", "revision", "checksums") if name in card}
    return {}
