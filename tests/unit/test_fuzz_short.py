"""Some damaged files for each reader, as `make fuzz` makes them by the thousand, and what that has found."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.harness import check, check_valid, fuzz
from tests.fuzz.readers import Reader, all_readers

_INPUTS = 100
ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "tests" / "fuzz" / "found"
"""Inputs that crashed a reader once: `<reader>_<what it was>`."""


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """Every reader by its name."""
    return {reader.name: reader for reader in all_readers(tmp_path_factory.mktemp("readers"))}


def test_no_damaged_file_crashes_or_hangs_a_reader(readers: dict[str, Reader], tmp_path: Path) -> None:
    for reader in readers.values():
        check_valid(reader, tmp_path)
        tried, read = fuzz(reader, max(10, int(_INPUTS * reader.share)), 7, tmp_path)
        assert tried >= 10
        assert read < tried, f"{reader.name} reads whatever it is given"


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="left out: atheris has no wheel for this machine"
)
def test_inputs_that_are_led_by_coverage_crash_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", "20", "--guided", "60", "study"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.endswith("40 inputs (10 by hypothesis, 30 by atheris), no crash and no hang\n")


def test_what_the_fuzzer_found_stays_mended(readers: dict[str, Reader], tmp_path: Path) -> None:
    found = sorted(FOUND.iterdir())
    assert found
    for path in found:
        check(readers[path.name.split("-")[0]], path.read_bytes(), tmp_path)


def test_a_crash_keeps_its_input(tmp_path: Path) -> None:
    from tests.fuzz.harness import CrashError

    def fails(content: bytes) -> None:
        raise KeyError(content)

    with pytest.raises(CrashError, match="it: KeyError"):
        check(Reader("it", [b"x"], lambda random, content: content, fails), b"x", tmp_path)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"x"}


def test_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import harness

    def hangs(content: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr(harness, "SECONDS", 0.05)
    with pytest.raises(harness.CrashError, match=r"more than 0\.05 s"):
        check(Reader("it", [b"x"], lambda random, content: content, hangs), b"x", tmp_path)
