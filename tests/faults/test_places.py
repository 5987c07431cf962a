"""Places that take no file, and a GPU that is not there: one clear line, exit code 2, and right once it is mended."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from wolfe.verification import differing_tables, verify

from .conftest import Undisturbed
from .stages import RESULTS, Ended, Server, stages

WRITING = [name for name in stages() if name != "verify"]
ON_A_DEVICE = ("train", "targets", "attack-run")
# Bytes left: too few for what a stage writes, enough to begin.
_LEFT = 3 << 10
_FULL = 8 << 20


def told_in_one_line(ended: Ended, *words: str) -> None:
    """Holds that a command has ended with one line that has some words, and without a traceback."""
    assert ended.code == 2, ended.text
    assert "Traceback" not in ended.text
    (line,) = [line for line in ended.text.splitlines() if line.startswith("Error: ")]
    assert all(word in line for word in words), line


def goes_on(server: Server, name: str, work: Path, undisturbed: Undisturbed) -> None:
    """Holds that the stage, and all after it, give what they always give."""
    for again in list(stages())[list(stages()).index(name) :]:
        ended = server.run(work, stages()[again].arguments)
        assert ended.code == 0, ended.text
    assert not verify(work / RESULTS).wrong
    assert not differing_tables(work / RESULTS, undisturbed.folder / RESULTS)


@pytest.fixture
def small_disk(work: Path, root: None) -> Iterator[Path]:
    """The study's working folder on a disk of its own."""
    disk = work.with_name("disk")
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_FULL}", "tmpfs", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"left out: no small disk can be mounted here ({mounted.stderr.strip()})")
    shutil.copytree(work, disk / "work")
    yield disk / "work"
    subprocess.run(["umount", disk], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves next to nothing of a disk."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    filler.write_bytes(bytes(max(0, free - _LEFT)))
    return filler


def logged(name: str) -> tuple[str, ...]:
    """The command of a stage as the workflow gives it: with a log beside the results."""
    return ("--log", str(RESULTS / "logs" / f"{name}.log"), *stages()[name].arguments)


@pytest.mark.parametrize("name", WRITING)
def test_no_space_left(name: str, server: Server, small_disk: Path, undisturbed: Undisturbed) -> None:
    stages()[name].forget(small_disk)
    (small_disk / RESULTS / "logs").mkdir()
    said = small_disk.with_name("work.said.txt")
    said.symlink_to(small_disk.parents[1] / "said.txt")  # what it says needs no room on the disk
    filler = fill(small_disk.parent)
    ended = server.run(small_disk, logged(name))
    filler.unlink()
    told_in_one_line(ended, "No space left on device")
    goes_on(server, name, small_disk, undisturbed)


@pytest.mark.parametrize("name", WRITING)
def test_read_only_folder(name: str, server: Server, small_disk: Path, undisturbed: Undisturbed) -> None:
    stages()[name].forget(small_disk)
    said = small_disk.with_name("work.said.txt")
    said.symlink_to(small_disk.parents[1] / "said.txt")
    change = ["mount", "-o", "remount,{}", str(small_disk.parent)]
    subprocess.run([part.format("ro") for part in change], check=True)
    ended = server.run(small_disk, stages()[name].arguments)
    subprocess.run([part.format("rw") for part in change], check=True)
    told_in_one_line(ended, "Read-only file system", "results/faults")
    subprocess.run([part.format("ro") for part in change], check=True)
    log = server.run(small_disk, logged(name))
    subprocess.run([part.format("rw") for part in change], check=True)
    told_in_one_line(log, "--log", "Read-only file system", "results/faults")
    goes_on(server, name, small_disk, undisturbed)


@pytest.mark.parametrize("name", WRITING)
def test_no_permission_to_write(name: str, server: Server, work: Path, undisturbed: Undisturbed) -> None:
    stages()[name].forget(work)
    folders = [work, *(path for path in work.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    ended = server.run(work, stages()[name].arguments, rightless=True)
    for folder in folders:
        folder.chmod(0o755)
    told_in_one_line(ended, "Permission denied", "results/faults")
    goes_on(server, name, work, undisturbed)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("targets", "models/net/weights.safetensors"),
        ("attack-run", "models/net/classifier.json"),
        ("attack-run", "data/scenes/card.json"),
        ("table", "attacks/net/flip_bits_1_any/jma-step_size_0.5-max_iterations_40/records.parquet"),
    ],
)
def test_no_permission_to_read(name: str, file: str, server: Server, work: Path) -> None:
    (work / RESULTS / file).chmod(0)
    ended = server.run(work, stages()[name].arguments, rightless=True)
    told_in_one_line(ended, "Permission denied", file)


def test_no_permission_to_read_what_an_option_names(server: Server, work: Path) -> None:
    """The library of the command line sees to it, and says it in its own frame."""
    (work / RESULTS / "targets" / "net" / "flip_bits_1_any.parquet").chmod(0)
    ended = server.run(work, stages()["attack-run"].arguments, rightless=True)
    assert ended.code == 2
    assert "'--targets'" in ended.text and "not readable" in " ".join(ended.text.split())
    assert "Traceback" not in ended.text


@pytest.mark.parametrize("name", ON_A_DEVICE)
def test_no_gpu(name: str, server: Server, work: Path) -> None:
    arguments = stages()[name].arguments
    place = arguments.index("--device") + 1
    stages()[name].forget(work)
    ended = server.run(work, (*arguments[:place], "cuda", *arguments[place + 1 :]))
    told_in_one_line(ended, "device is cuda, but torch finds no CUDA device here", "use auto or cpu")
