"""A server of processes for all tests, the small study run once undisturbed, and a count of all kills."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from .stages import RESULTS, Server, stages

_KILLS = pytest.StashKey[Counter]()


@dataclass(frozen=True)
class Undisturbed:
    """The study, run without a fault.

    Attributes:
        folder: its working folder.
        seconds: how long each stage took.
        writes: how often each stage gave a file or folder its name.
    """

    folder: Path
    seconds: dict[str, float]
    writes: dict[str, int]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KILLS] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says how many processes were killed, and in which stages."""
    kills = config.stash[_KILLS]
    told = ", ".join(f"{stage} {number}" for stage, number in kills.items())
    terminalreporter.write_line(f"{kills.total()} kills: {told}" if kills else "no kills")


@pytest.fixture(scope="session")
def kills(pytestconfig: pytest.Config) -> Counter:
    """The number of kills of each stage."""
    return pytestconfig.stash[_KILLS]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Forks processes that find no GPU; it has loaded torch before anything is timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("MPLBACKEND", "agg")
        started = Server()
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "work").mkdir()
            assert started.run(Path(folder, "work"), ("list",)).code == 0
        yield started


@pytest.fixture(scope="session")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The study, run once by commands."""
    folder = tmp_path_factory.mktemp("undisturbed") / "work"
    folder.mkdir()
    seconds, writes = {}, {}
    for stage in stages().values():
        ended = server.run(folder, stage.arguments, write=0)
        assert ended.code == 0, ended.text
        seconds[stage.name], writes[stage.name] = ended.seconds, int(ended.text.split()[-2])
    # Tables of nothing but failures would be equal whatever is in their records.
    table = pd.read_csv(folder / RESULTS / "tables" / "flips.csv")
    assert table["asr"].between(0, 1, inclusive="neither").all() and table["l2_median"].notna().all()
    return Undisturbed(folder, seconds, writes)


@pytest.fixture
def work(undisturbed: Undisturbed) -> Iterator[Path]:
    """A copy of the undisturbed study."""
    top = Path(tempfile.mkdtemp(prefix="wolfe-faults-"))
    shutil.copytree(undisturbed.folder, top / "work")
    yield top / "work"
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def root() -> None:
    """Leaves a test out that needs the rights of root."""
    if os.geteuid() != 0:
        pytest.skip("left out: only root may do this")
