"""Processes killed by SIGKILL in every stage, at seeded moments and before each of their writes, and run again.

However often that happens, the study ends with the tables, weights and records of the undisturbed run.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil
import pytest

from wolfe.files import sha256
from wolfe.verification import differing_tables, verify

from .conftest import Undisturbed
from .stages import PATIENCE, RESULTS, STUDY, Server, Stage, stages

ROOT = Path(__file__).resolve().parents[2]
CHAINS = 10
THROUGH_SNAKEMAKE = 10
AT_LEAST = 100
_KILLED = -signal.SIGKILL
# Each makes the next kill come sooner, where a process had ended before it.
_SOONER, _TRIES = 0.6, 12


def same_results(folder: Path, undisturbed: Path) -> None:
    """Holds results against those of the undisturbed run: all is equal, times aside."""
    ours, theirs = folder / RESULTS, undisturbed / RESULTS
    found = verify(ours)
    assert not found.wrong
    assert found.runs == verify(theirs).runs
    assert not differing_tables(ours, theirs)
    for name in ("models/net/weights.safetensors", "models/net/classifier.json", "data/scenes/card.json"):
        assert sha256(ours / name) == sha256(theirs / name), name
    records = sorted(path.relative_to(theirs) for path in theirs.glob("attacks/*/*/*/records.parquet"))
    assert records
    for name in records:
        first, second = (pd.read_parquet(place / name).drop(columns="seconds") for place in (ours, theirs))
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        images = name.with_name("adversarials.safetensors")
        assert sha256(ours / images) == sha256(theirs / images), images


@pytest.mark.parametrize("chain", [pytest.param(0, marks=pytest.mark.short), *range(1, CHAINS)])
def test_killed_at_a_random_moment_of_every_stage(
    chain: int, server: Server, undisturbed: Undisturbed, tmp_path: Path, kills: Counter
) -> None:
    draws, folder = random.Random(chain), tmp_path / "work"
    folder.mkdir()
    for stage in stages().values():
        _killed_once(server, stage, folder, draws.uniform(0.02, 0.98) * undisturbed.seconds[stage.name])
        kills[stage.name] += 1
        again = server.run(folder, stage.arguments)
        assert again.code == 0, again.text
    same_results(folder, undisturbed.folder)


def _killed_once(server: Server, stage: Stage, folder: Path, seconds: float) -> None:
    """Runs a stage until it is killed: from its beginning, and for a shorter time, where it had ended before."""
    for _ in range(_TRIES):
        ended = server.run(folder, stage.arguments, kill_after=seconds)
        if ended.code == _KILLED:
            return
        assert ended.code == 0, ended.text
        stage.forget(folder)
        seconds *= _SOONER
    pytest.fail(f"{stage.name} always ends before it is killed")


@pytest.mark.parametrize("name", [name for name in stages() if name != "verify"])
def test_killed_before_each_write(
    name: str, server: Server, undisturbed: Undisturbed, tmp_path: Path, kills: Counter
) -> None:
    """The first write is fatal, then the second, and so on; a stage that keeps finished work ends before the last."""
    stage, folder = stages()[name], tmp_path / "work"
    shutil.copytree(undisturbed.folder, folder)
    stage.forget(folder)
    fatal = 1
    while (ended := server.run(folder, stage.arguments, write=fatal)).code == _KILLED:
        kills[name] += 1
        fatal += 1
    assert ended.code == 0, ended.text
    assert 2 <= fatal - 1 <= undisturbed.writes[name]
    # Times in its records are others now: what was made from them is made again, as Snakemake would.
    for later in list(stages().values())[list(stages()).index(name) + 1 :]:
        assert server.run(folder, later.arguments).code == 0
    same_results(folder, undisturbed.folder)


def test_killed_through_snakemake(undisturbed: Undisturbed, tmp_path: Path, kills: Counter) -> None:
    """A run that ends before its kill must be right; the next one then begins with nothing."""
    draws, folder = random.Random(CHAINS), tmp_path / "work"
    folder.mkdir()
    while kills["snakemake"] < THROUGH_SNAKEMAKE:
        if _run_for(folder, draws.uniform(5, 25)):
            same_results(folder, undisturbed.folder)
            shutil.rmtree(folder / "results")
        else:
            kills["snakemake"] += 1
            unlocked = subprocess.run(_snakemake(folder, "--unlock"), capture_output=True, text=True, check=False)
            assert unlocked.returncode == 0, unlocked.stdout + unlocked.stderr
    assert _run_for(folder, PATIENCE)
    same_results(folder, undisturbed.folder)


def _snakemake(folder: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*command, *arguments, "--cores", "2", "--configfile", str(STUDY)]


def _run_for(folder: Path, seconds: float) -> bool:
    """Whether the study ended within some seconds; if not, Snakemake and all its jobs are killed."""
    said = folder / "said.txt"
    with said.open("w") as output:
        command = _snakemake(folder, "table_flips", "figure_shown")
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    try:
        assert process.wait(seconds) == 0, said.read_text()
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        _kill_family(process)


def _kill_family(process: subprocess.Popen[bytes]) -> None:
    """As a machine fails: nobody is told, nobody lives on."""
    if process.poll() is not None:
        return
    head = psutil.Process(process.pid)
    head.suspend()  # so that it starts nobody else
    family = head.children(recursive=True)
    for member in [*family, head]:
        if member.is_running():
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=PATIENCE)


def test_a_hundred_kills_in_all(kills: Counter, request: pytest.FixtureRequest) -> None:
    if len(request.session.items) <= CHAINS + len(stages()):
        pytest.skip("left out: only some of the tests were chosen")
    assert kills.total() >= AT_LEAST
