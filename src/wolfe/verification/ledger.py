"""What a check of results keeps: checksums that were worked out, and what was found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wolfe.files import read_json, sha256
from wolfe.provenance import RUN

STAGES = ("data", "models", "targets", "attacks", "transfer", "experiments", "geometry", "tables", "figures")
"""The folders of a study that hold what stages write; the report lies beside them."""
_BESIDE = ("store", "parts", "logs", "benchmarks", "study.json", "rulegraph.dot")
"""What else the workflow leaves in a study's folder."""
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


@dataclass
class Findings:
    """What a check has found.

    Attributes:
        wrong: results that are damaged, missing, or not made from what is there now; a line each.
        differing: what is not as it was then (code, packages, study); a line each.
        remarks: what could not be looked at; a line each.
        runs: the run files that were read.
        files: the files whose checksums were worked out.
        pieces: finished pieces of work in the store.
    """

    wrong: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    runs: int = 0
    files: int = 0
    pieces: int = 0


class Ledger:
    """A check at work on the results of a study.

    Args:
        results: the study's folder.

    Attributes:
        results: the folder, without links and dots.
        found: the findings so far.
    """

    def __init__(self, results: Path) -> None:
        self.results = Path(results).resolve()
        self.found = Findings()
        self._sums: dict[Path, str] = {}

    def wrong(self, what: str, path: Path, why: str) -> None:
        """Notes that something is wrong: in a word, where, and why or what to do."""
        self.found.wrong.append(f"{what}: {self.name(path)} ({why})")

    def name(self, path: Path) -> str:
        """A file's path as seen from the study's folder."""
        return path.relative_to(self.results).as_posix()

    def is_whole(self, path: Path, expected: str) -> bool:
        """Whether a file has a checksum, which is worked out once for each file."""
        if path not in self._sums:
            self._sums[path] = sha256(path)
            self.found.files += 1
        return self._sums[path] == expected

    def files(self) -> Iterator[Path]:
        """All files that stages have left."""
        yield from filter(Path.is_file, self._shown())
        yield from sorted(self.results.glob("report.*"))

    def dead_ends(self) -> Iterator[Path]:
        """What stages do not leave: links to folders or to nothing, pipes, devices. Nobody looks behind them."""
        for path in self._shown():
            folder = path.is_dir() and not path.is_symlink()
            if not folder and not path.is_file() and (path.exists() or path.is_symlink()):
                yield path

    def _shown(self) -> Iterator[Path]:
        """What lies in the stages' folders, and these; what is hidden was left by Snakemake or by a killed run."""
        for top in (self.results / stage for stage in STAGES):
            for path in (top, *sorted(top.rglob("*"))):
                if not any(part.startswith(".") for part in path.relative_to(self.results).parts):
                    yield path

    def strangers(self) -> Iterator[Path]:
        """What lies at the top of the study's folder and is none of a study's files and folders, hidden ones aside."""
        for path in sorted(self.results.iterdir()):
            if path.name not in (*STAGES, *_BESIDE) and not path.name.startswith((".", "report.")):
                yield path


def is_run_file(path: Path) -> bool:
    """Whether a file is the run file of a folder or of single files."""
    return path.name == RUN or path.name.endswith(f".{RUN}")


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path, its links and dots followed, leads into a folder."""
    return path.resolve().is_relative_to(folder.resolve())


def read_map(file: Path) -> dict[str, Any] | None:
    """The map in a JSON file; None where there is none."""
    try:
        content = read_json(file)
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def sums_of(content: object) -> dict[str, str] | None:
    """Names of files with their checksums; None for anything else that stands in their place."""
    if not isinstance(content, dict):
        return None
    known = all(
        isinstance(name, str) and name.isprintable() and isinstance(value, str) and _CHECKSUM.fullmatch(value)
        for name, value in content.items()
    )
    return dict(content) if known else None


def counted(runs: int) -> str:
    """So many runs, in words."""
    return f"{runs} run{'' if runs == 1 else 's'}"
