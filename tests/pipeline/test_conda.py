"""`--use-conda`, as far as it can be tried without a channel: a stand-in for conda over a channel of empty packages.

Snakemake really chooses, creates and activates the environments; whether a public channel has their packages is not
tested here.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import rattler
import yaml

from wolfe.verification import verify

from .conda.channel import USED, make_channel
from .conftest import ROOT, Run, snakemake

STUDY = ROOT / "tests" / "faults" / "faults.yaml"
RESULTS = Path("results") / "faults"
CONDA = Path(__file__).parent / "conda"
FILES = {file.stem: yaml.safe_load(file.read_text()) for file in (ROOT / "envs").glob("*.yaml")}
STAGES = {
    "data": {"dataset"},
    "models": {"train", "targets"},
    "attacks": {"attack-run"},
    "report": {"table", "figure", "report"},
}


def requirements(kind: str) -> dict[str, str]:
    """The versions (as they are asked for) of an environment's packages by name."""
    specs = [rattler.MatchSpec(requirement, strict=True) for requirement in FILES[kind]["dependencies"]]
    return {spec.name.normalized: str(spec.version).removeprefix("==").removesuffix(".*") for spec in specs}


def every_requirement() -> dict[str, str]:
    return {name: version for kind in FILES for name, version in requirements(kind).items()}


@pytest.fixture
def with_conda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the channel, and a path that finds the stand-in."""
    make_channel(tmp_path / "channels" / "conda-forge", every_requirement())
    command = tmp_path / "bin" / "conda"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {CONDA / "stand_in.py"} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("CONDA_CHANNELS", str(tmp_path / "channels"))
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    return tmp_path


def run(folder: Path, *arguments: str) -> Run:
    return snakemake(folder, "--use-conda", *arguments, study=STUDY)


def test_each_stage_runs_in_the_environment_of_its_kind(with_conda: Path) -> None:
    ended = run(with_conda)
    assert ended.code == 0, ended.text
    made = {}
    for folder in (path for path in (with_conda / ".snakemake" / "conda").iterdir() if path.is_dir()):
        (kind,) = [kind for kind in FILES if (ROOT / "envs" / f"{kind}.yaml").read_bytes() == _copied(folder)]
        made[kind] = folder
    assert set(made) == set(FILES)
    for kind, folder in made.items():
        records = [rattler.PrefixRecord.from_path(file) for file in (folder / "conda-meta").glob("*.json")]
        assert {item.name.normalized: str(item.version) for item in records} == requirements(kind)
        stages = set(re.findall(r"^-m wolfe --log \S+ (\S+)", (folder / USED).read_text(), re.MULTILINE))
        assert stages == STAGES[kind]
    assert not verify(with_conda / RESULTS).wrong


def _copied(folder: Path) -> bytes:
    """What Snakemake kept of the file that an environment was made from."""
    return folder.with_suffix(".yaml").read_bytes()


def test_a_version_that_the_channel_lacks_is_told_before_the_work(with_conda: Path) -> None:
    channel = with_conda / "channels" / "conda-forge"
    shutil.rmtree(channel)
    make_channel(channel, every_requirement() | {"timm": "0.0.1"})
    ended = run(with_conda, "table_flips")
    assert ended.code != 0
    assert re.search(r"Could not create conda environment from .*envs/\w+\.yaml", ended.text), ended.text
    assert "timm" in ended.text
    assert not (with_conda / RESULTS).exists()


def test_without_conda_it_is_told_before_the_work(tmp_path: Path) -> None:
    ended = run(tmp_path, "table_flips")
    assert ended.code != 0
    assert "Is conda installed" in ended.text
    assert not (tmp_path / RESULTS).exists()
