"""The command line: what it hands to the package, and how it ends when its input is wrong."""

from __future__ import annotations

import json
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors import SafetensorError
from typer.testing import CliRunner

from wolfe.cli import app
from wolfe.cli.entries import checked_entry
from wolfe.experiments.part import Part
from wolfe.study import attack_names, load_study
from wolfe.study.document import ROOT

EMBEDDED = str(ROOT / "config" / "embedded.yaml")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _quiet_loggers() -> Iterator[None]:
    """Takes the handlers away that --log adds."""
    yield
    logging.captureWarnings(False)
    for name in ("wolfe", "py.warnings", "lightning", "lightning.pytorch"):
        for handler in [item for item in logging.getLogger(name).handlers if isinstance(item, logging.FileHandler)]:
            logging.getLogger(name).removeHandler(handler)
            handler.close()


class Called:
    """Stands in for a function of the package and remembers what it was given."""

    def __init__(self, result: object = None, error: Exception | None = None) -> None:
        self.result, self.error = result, error
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> object:
        self.arguments, self.options = arguments, options
        if self.error:
            raise self.error
        return self.result


def test_validate_says_what_a_study_runs() -> None:
    result = call("validate", EMBEDDED)
    assert result.exit_code == 0
    assert "table jma_04: 20 rows on digits_ecoc" in result.stdout
    assert "job attack_jma_08" in result.stdout


def test_a_wrong_study_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(Path(EMBEDDED).read_text().replace("seed: 20240", "sed: 20240"))
    result = call("validate", study)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: sed: unknown key; did you mean 'seed'? allowed: ")
    assert result.stderr.count("\n") == 1


def test_a_terminal_sees_one_line_and_no_traceback() -> None:
    """In a process of its own: pytest's log capture hides what logging prints where nobody listens."""
    command = [sys.executable, "-m", "wolfe", "validate", "nothing.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")


def test_debugging_shows_the_error_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WOLFE_DEBUG", "1")
    assert isinstance(call("validate", "nothing.yaml").exception, ValueError)


def test_list_names_what_there_is() -> None:
    assert all(
        name in call("list").stdout for name in [*attack_names(), "digits", "vgg16_ensemble", "flip_bits", "detection"]
    )
    assert call("list", "datasets").stdout == "datasets:\n  digits\n  hub\n  scenes\n  sequences\n"
    wrong = call("list", "colours")
    assert (wrong.exit_code, "allowed: all, attacks, datasets" in wrong.stderr) == (2, True)


def test_dataset_takes_json_text_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build = Called()
    monkeypatch.setattr("wolfe.data.build_dataset", build)
    entry = tmp_path / "entry.yaml"
    entry.write_text("source: digits\nsize: 16\n")
    for spec in ('{"source": "digits", "size": 16}', entry):
        assert call("dataset", "mine", "--spec", spec, "--out", tmp_path, "--seed", 4).exit_code == 0
        assert build.arguments == ("mine", {"source": "digits", "size": 16}, tmp_path, 4)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ('{"source": ', "Error: --spec: the text is not valid JSON"),
        ("[1]", "Error: --spec: must hold a map, not list"),
        ("absent.yaml", "Error: --spec: 'absent.yaml' is neither JSON text nor a file"),
    ],
)
def test_bad_specs_are_named(tmp_path: Path, spec: str, expected: str) -> None:
    result = call("dataset", "mine", "--spec", spec, "--out", tmp_path, "--seed", 4)
    assert result.exit_code == 2
    assert result.stderr.startswith(expected)


def test_a_file_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    file = tmp_path / "entry.yaml"
    file.write_text("a: [")
    result = call("dataset", "mine", "--spec", file, "--out", tmp_path, "--seed", 4)
    assert result.stderr.startswith(f"Error: --spec: {file} is not valid YAML")


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    assert call("dataset", "mine", "--spec", "{}", "--out", tmp_path, "--seed", -1).exit_code == 2


def test_train_hands_everything_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train = Called()
    monkeypatch.setattr("wolfe.models.train_model", train, raising=False)
    paths = {name: tmp_path / name for name in ("data", "out", "store", "bottom")}
    options = [text for name, path in paths.items() for text in (f"--{name}", path)]
    assert call("train", "net", "--spec", "{}", "--seed", 1, "--device", "cpu", "--quiet", *options).exit_code == 0
    assert train.arguments == ("net", {}, paths["data"], paths["out"], paths["store"], 1, "cpu")
    assert train.options == {"bottom": paths["bottom"], "quiet": True, "calibrated": False}
    assert call("train", "net", "--spec", "{}", "--seed", 1, "--calibrate", *options).exit_code == 0
    assert train.options["calibrated"]


def test_targets_and_attack_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write, run = Called(), Called()
    monkeypatch.setattr("wolfe.experiments.targets.write_targets", write)
    monkeypatch.setattr("wolfe.experiments.attack_run.run_attacks", run)
    common = ["--model", "m", "--data", "d", "--out", "o", "--seed", 2, "--device", "cpu"]
    assert call("targets", "--spec", '{"rule": "all_off"}', *common).exit_code == 0
    assert write.arguments == (Path("m"), Path("d"), {"rule": "all_off"}, Path("o"), 2, "cpu")
    rows = [{"slug": "a", "attack": "jma", "parameters": {}}]
    extra = [
        "--targets",
        "t",
        "--store",
        "s",
        "--rows",
        json.dumps(rows),
        "--shard-size",
        4,
        "--batch-size",
        3,
        "--time-limit",
        9,
    ]
    assert call("attack-run", *common, *extra).exit_code == 0
    expected = (Path("m"), Path("t"), Path("d"), rows, Path("o"), Path("s"), 2, "cpu", 4, 3, None, 9.0)
    assert run.arguments == (*expected, None)
    assert call("attack-run", *common, *extra, "--part", "2/4").exit_code == 0
    assert run.arguments == (*expected, Part(2, 4))
    assert "there is no part 5 of 4" in call("attack-run", *common, *extra, "--part", "5/4").stderr
    wrong = call("attack-run", *common, *extra, "--rows", '{"slug": "a"}')
    assert "--rows: must hold a list of maps" in wrong.stderr


def test_table_figure_and_report(monkeypatch: pytest.MonkeyPatch) -> None:
    table, figure, geometry, report = Called(), Called(), Called(), Called()
    monkeypatch.setattr("wolfe.report.tables.write_table", table)
    monkeypatch.setattr("wolfe.report.figures.write_figure", figure)
    monkeypatch.setattr("wolfe.experiments.geometry.write_geometry", geometry)
    monkeypatch.setattr("wolfe.report.page.write_report", report)
    assert call("table", "--spec", "{}", "--attacks", "a", "--out", "t").exit_code == 0
    assert table.arguments == ({}, Path("a"), None, Path("t"))
    assert call("figure", "--spec", "{}", "--results", "r", "--out", "f").exit_code == 0
    assert figure.arguments == ({}, Path("r"), None, Path("f"))
    assert call("figure", "--spec", "{}", "--geometry", "g.json", "--out", "f").exit_code == 0
    assert figure.arguments == ({}, None, Path("g.json"), Path("f"))
    places = ["--model", "m", "--targets", "t", "--data", "d", "--out", "g.json", "--device", "cpu"]
    assert call("geometry", "--spec", "{}", *places).exit_code == 0
    assert geometry.arguments == (Path("m"), Path("t"), Path("d"), {}, Path("g.json"), "cpu")
    assert call("report", "--spec", "{}", "--results", "r", "--rulegraph", "g", "--out", "p").exit_code == 0
    assert report.arguments == ({}, Path("r"), Path("g"), Path("p"))


def test_attack_reads_parameters_as_values(monkeypatch: pytest.MonkeyPatch) -> None:
    attack = Called(result=Path("out"))
    monkeypatch.setattr("wolfe.experiments.single.attack_image", attack)
    monkeypatch.setattr("wolfe.report.single.write_single", lambda folder: f"{folder}/picture.png")
    options = ["--model", "m", "--image", "i.png", "--target", "3", "--out", "out", "--device", "cpu"]
    result = call("attack", *options, "--parameter", "step_size=1e-2", "--parameter", "clip=false")
    assert (result.exit_code, result.stdout) == (0, "out/picture.png\n")
    row = {"attack": "jma", "step_size": 0.01, "clip": False}
    assert attack.arguments == (Path("m"), Path("i.png"), "3", row, Path("out"), "cpu", None)
    wrong = call("attack", *options, "--parameter", "step_size")
    assert wrong.stderr == "Error: --parameter: 'step_size' is not of the form name=value\n"


def test_missing_files_and_unknown_devices_are_one_line(tmp_path: Path) -> None:
    result = call("attack", "--model", tmp_path, "--image", "i.png", "--target", "3", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    wrong = call("targets", "--model", "m", "--data", "d", "--out", "o", "--seed", 1, "--spec", "{}", "--device", "tpu")
    assert "'tpu'" in wrong.stderr


def test_the_log_holds_what_the_terminal_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "logs" / "validate.log"
    result = call("--log", log, "validate", tmp_path / "absent.yaml")
    assert result.stderr.removeprefix("Error: ") in log.read_text()
    assert "Traceback" not in result.stderr + log.read_text()
    with monkeypatch.context() as patch:
        patch.setenv("WOLFE_DEBUG", "1")
        call("--log", log, "validate", tmp_path / "absent.yaml")
    assert "Traceback" in log.read_text()
    assert call("--log", log, "validate", EMBEDDED).exit_code == 0
    assert "finished after" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_errors_of_the_program_itself_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wolfe.cli.terminal.load_study", Called(error=RuntimeError("a bug")))
    result = call("--log", tmp_path / "log", "validate", EMBEDDED)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("Error: RuntimeError: a bug (this should not happen")
    assert "Traceback" in (tmp_path / "log").read_text()
    monkeypatch.setenv("WOLFE_DEBUG", "1")
    assert isinstance(call("validate", EMBEDDED).exception, RuntimeError)


@pytest.mark.parametrize(
    ("command", "spec", "message"),
    [
        ("table", {"kind": ["x"], "rows": 5}, "kind must be a text, not ['x']"),
        ("table", {"kind": "attacks", "rows": 5}, "rows must be a list of maps or names, not 5"),
        ("table", {"kind": "losses", "parts": [5]}, "parts must be a list of maps, not [5]"),
        ("table", {"part": {"table": {"images": -3}}}, "images must be a whole number from 1 on, not -3"),
        ("table", {"part": {"table": {"images": True}}}, "images must be a whole number from 1 on, not True"),
        ("table", {"rows": [{"parameters": []}]}, "parameters must be a map, not []"),
        ("table", {"rows": [None]}, "rows must be a list of maps or names, not [None]"),
        ("table", {"rule": {"rule": {}}}, "rule must be a text, or a map with a rule that is one, not {'rule': {}}"),
        ("table", {"slug": None}, "slug must be a text, not None"),
        ("table", {"train": 10**12}, "train must be at most 10000000, not 1000000000000"),
    ],
)
def test_an_entry_that_holds_something_else_is_named(command: str, spec: dict, message: str) -> None:
    result = call(command, "--spec", json.dumps(spec), "--attacks", ".", "--out", "t")
    assert (result.exit_code, result.stderr) == (2, f"Error: --spec: {message}\n")


@pytest.mark.parametrize("study", ["config/embedded.yaml", "config/paper.yaml", "tests/pipeline/tiny.yaml"])
def test_entries_of_the_studies_hold_what_they_must(study: str) -> None:
    plan = load_study(ROOT / study)
    groups = (plan.datasets, plan.models, plan.targets, plan.transfers, plan.experiments, plan.tables, plan.figures)
    for entry in (json.loads(json.dumps(entry)) for group in groups for entry in group.values()):
        assert checked_entry(entry, "--spec") == entry
    assert all(checked_entry(batch.rows, "--rows") for batch in plan.batches)


@pytest.mark.parametrize("place", ["folder", "file/log"])
def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    result = call("--log", tmp_path / place, "validate", EMBEDDED)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"Error: --log: no file can be written at {tmp_path / place} (")


def test_a_log_that_is_a_pipe_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "--log: " in call("--log", tmp_path / "pipe", "validate", EMBEDDED).stderr
    assert call("--log", os.devnull, "list", "targets").exit_code == 0


def test_a_full_disk_is_one_line_whoever_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    monkeypatch.setattr("wolfe.cli.terminal.load_study", Called(error=error))
    result = call("validate", EMBEDDED)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "No space left on device" in result.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_is_used_up_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("wolfe.cli.terminal.load_study", Called(error=error))
    result = call("validate", EMBEDDED)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("Error: memory is used up: ")


def test_python_dash_m_is_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["wolfe", "list", "targets"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("wolfe", run_name="__main__")
    assert ended.value.code == 0
    assert "other_class" in capsys.readouterr().out
