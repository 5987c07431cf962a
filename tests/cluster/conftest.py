"""A cluster for all tests, and the small study: run once on this machine, and started on the cluster by each test."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .slurm import Cluster, wait_for, why_not

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = Path("results") / "small"
# One of the two jobs that the study's images are divided among.
PART = str(RESULTS / "parts" / "one_hot" / "1_of_2.json")
# A head that waits for what never comes fails its test; it does not hang the suite.
PATIENCE = 600


def command(folder: Path, *arguments: str) -> list[str]:
    """Snakemake as a user calls it on a cluster: with the profile of this checkout."""
    profile = ["--profile", str(ROOT / "workflow" / "profiles" / "slurm"), "--latency-wait", "15"]
    return [*_snakemake(folder, HERE / "head.py"), *arguments, *profile, "--configfile", str(HERE / "small.yaml")]


def _snakemake(folder: Path, *program: object) -> list[str]:
    return [sys.executable, *map(str, program), "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]


class Head:
    """A Snakemake on this machine that hands its jobs to the cluster.

    Args:
        folder: its working directory.
        arguments: targets and options.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._said = folder / "head.txt"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(command(folder, *arguments), cwd=folder, stdout=said, stderr=said)

    def __enter__(self) -> Head:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self._said.read_text()

    def meet(self, true: Callable[[], object], what: str) -> None:
        """Waits until something is so, while it runs.

        Raises:
            AssertionError: it has ended, or it takes too long.
        """

        def so() -> object:
            assert self.process.poll() is None, f"ended before {what}: {self.text}"
            return true()

        wait_for(so, what, PATIENCE)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(timeout=PATIENCE)

    def kill(self) -> None:
        """Ends it at once, as a machine that fails does."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def _daemons() -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(f"the cluster's tests were left out: {reason}")
    # A socket's path may have 107 characters: pytest's own folders can be too deep.
    folder = Path(tempfile.mkdtemp(prefix="wolfe-slurm-"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def local(_daemons: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the small study's table was made on this machine, each attack by one job."""
    folder = tmp_path_factory.mktemp("local")
    study = ["--configfile", str(HERE / "small.yaml"), str(HERE / "whole.yaml")]
    run = [*_snakemake(folder, "-m", "snakemake"), "table_one_hot", "--cores", "2", *study]
    ended = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.fixture
def cluster(_daemons: Cluster) -> Iterator[Cluster]:
    """The cluster, with nothing in its queue before and after."""
    yield _daemons
    _daemons.cancel()


@pytest.fixture
def attack(local: Path, cluster: Cluster, tmp_path: Path) -> Path:
    """A folder in which everything is made but what attacks make, on a cluster that is ready."""
    folder = tmp_path / "run"
    made_later = ("attacks", "store", "parts", "tables", "logs", "benchmarks")
    shutil.copytree(local, folder, ignore=lambda place, names: made_later if Path(place).name == "small" else ())
    return folder
