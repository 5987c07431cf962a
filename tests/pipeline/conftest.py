"""Snakemake as a user runs it, in a folder of its own, and the tiny study run once for all tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "pipeline" / "tiny.yaml"


@dataclass(frozen=True)
class Run:
    """What a run of Snakemake said."""

    code: int
    text: str

    @property
    def planned(self) -> dict[str, int]:
        """Rules and how often they run, from the table of a plan or a run."""
        table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", self.text, re.DOTALL | re.MULTILINE)
        lines = table.group(1).splitlines() if table else []
        return {name: int(count) for name, count in (line.split() for line in lines if line.strip())}

    @property
    def nothing_to_do(self) -> bool:
        """Whether it found everything in place."""
        return self.code == 0 and "Nothing to be done" in self.text


def snakemake(folder: Path, *arguments: str, study: Path | None = TINY, snakefile: Path = ROOT / "Snakefile") -> Run:
    """Runs Snakemake with the default profile on two cores; its files go to `folder`."""
    chosen = ["--configfile", str(study)] if study else []
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    ended = subprocess.run(
        [*command, "--cores", "2", *arguments, *chosen],
        cwd=folder,
        env=_environment(measured="--dry-run" not in arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Run(ended.returncode, ended.stdout)


def _environment(measured: bool) -> dict[str, str]:
    """The environment of a run; coverage of what only plans would be that of Snakemake's reading of a copy."""
    kept = {name: value for name, value in os.environ.items() if measured or not name.startswith("COVERAGE_")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny study has run."""
    folder = tmp_path_factory.mktemp("finished")
    run = snakemake(folder)
    assert run.code == 0, run.text
    return folder
