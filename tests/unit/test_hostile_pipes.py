"""Pipes and folders where files are wanted: refused before anybody waits for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wolfe.cli import app
from wolfe.data.image_set import load_card
from wolfe.files import checked, read_json, sha256
from wolfe.models.adopting import _tensors
from wolfe.provenance import begin_run
from wolfe.reading.pictures import read_picture
from wolfe.reading.tables import opened_table, read_table
from wolfe.reading.tensors import read_arrays
from wolfe.reading.text import read_text
from wolfe.report.grid import read_csv
from wolfe.report.published import read_published
from wolfe.report.single import _read as draw_read
from wolfe.study.document import read_document
from wolfe.verification.tables import _text as text_of_table


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Puts pipes into the temporary folder, by their names; who opens one finds nothing, and does not wait for ever."""
    writers = []

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        writers.append(subprocess.Popen(["/bin/sh", "-c", 'while :; do : > "$0"; done', str(path)]))
        return path

    yield make
    for writer in writers:
        writer.kill()
        writer.wait()


def test_a_pipe_is_no_file(pipe: Callable[[str], Path]) -> None:
    path = pipe("pipe")
    with pytest.raises(FileNotFoundError, match="pipe is missing"):
        checked(path, "0")
    for read in (read_table, read_arrays, lambda path: read_picture(path, "L")):
        with pytest.raises(FileNotFoundError):
            read(path)


@pytest.mark.parametrize(
    "read",
    [read_json, read_document, sha256, _tensors, read_published, text_of_table, opened_table, draw_read,
     lambda path: read_csv(path, []), lambda path: read_text(path, 10)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["it.csv", "it.safetensors"])
def test_a_pipe_is_refused_before_it_is_opened(
    pipe: Callable[[str], Path], read: Callable[[Path], object], name: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=r"is no regular file|there is no picture"):
        read(pipe(name))


def test_a_folder_or_nothing_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    for read in (read_json, _tensors, read_published):
        with pytest.raises(ValueError, match="no regular file"):
            read(tmp_path)
        with pytest.raises(FileNotFoundError, match="nothing"):
            read(tmp_path / "nothing")


def test_commands_end_in_one_line_where_a_pipe_stands_for_a_file(pipe: Callable[[str], Path], tmp_path: Path) -> None:
    study = CliRunner().invoke(app, ["validate", str(pipe("study.yaml"))])
    assert study.exit_code == 2
    assert "study.yaml: is no regular file" in study.output
    pipe("results/store/key/shard-0001/manifest.json")
    (tmp_path / "results" / "tables").mkdir()
    verified = CliRunner().invoke(app, ["verify", str(tmp_path / "results")])
    assert "store/key/shard-0001/manifest.json" in verified.output
    assert verified.exit_code == 1
    pipe("data/card.json")
    with pytest.raises(FileNotFoundError, match=r"card\.json is missing"):
        load_card(tmp_path / "data")
    assert begin_run("targets", data=tmp_path / "data").dataset == {}
