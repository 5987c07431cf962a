"""What run files say: command, times, study, code, inputs and outputs, and nothing of the machine's folders."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from wolfe import fingerprint, provenance
from wolfe.data import build_dataset
from wolfe.files import content_checksum, read_json, sha256, write_json
from wolfe.fingerprint import code_fingerprint
from wolfe.provenance import STUDY_VARIABLE, begin_run, beside, check_written, checksums, command, entry_checksum

from ..conftest import rewrite_run

MODULES = ("wolfe.names",)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one result that an attack could read."""
    folder = tmp_path / "work"
    (folder / "results" / "mine" / "models" / "net").mkdir(parents=True)
    (folder / "results" / "mine" / "models" / "net" / "weights.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(folder)
    return folder


def written(out: Path, inputs: list[Path] | None = None, **more: object) -> dict:
    """The contents of the run file of a stage that writes one file."""
    run = begin_run("table", {"name": "t"}, inputs or [], seed=7)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("a,b\n")
    run.write(beside(out), checksums([out]), MODULES, **more)
    return read_json(beside(out))


def test_a_run_says_what_it_was(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STUDY_VARIABLE, "5" * 64)
    said = written(Path("results/mine/tables/t.csv"))
    assert Path("results/mine/tables/t.run.json").is_file()
    assert said["sha256"] == content_checksum(said)
    assert said["stage"] == "table"
    assert said["study"] == "5" * 64
    assert said["entry"] == entry_checksum({"name": "t"})
    assert (said["seed"], said["modules"], said["code"]) == (7, list(MODULES), code_fingerprint(*MODULES))
    assert {"python", "wolfe", "torch", "numpy"} <= said["versions"].keys()
    assert said["device"].startswith("CPU (")
    assert said["threads"] >= 1
    assert said["outputs"] == {"t.csv": sha256(work / "results" / "mine" / "tables" / "t.csv")}
    started, ended = datetime.fromisoformat(said["started"]), datetime.fromisoformat(said["ended"])
    assert started <= ended
    assert started.utcoffset() == ended.utcoffset() == timedelta(0)
    assert said["seconds"] >= 0


def test_outside_a_workflow_no_study_is_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STUDY_VARIABLE, raising=False)
    assert "study" not in written(Path("results/mine/tables/t.csv"))


def test_what_a_stage_says_itself_stands_before_the_rest(work: Path) -> None:
    said = written(Path("t.csv"), seconds=1.5, images=3, device="NVIDIA H100")
    assert (said["seconds"], said["images"], said["device"]) == (1.5, 3, "NVIDIA H100")


def test_inputs_are_named_as_seen_from_the_run_file_and_strangers_by_name_only(work: Path, tmp_path: Path) -> None:
    inside, outside = Path("results/mine/models/net/weights.safetensors"), tmp_path / "elsewhere" / "numbers.csv"
    outside.parent.mkdir()
    outside.write_text("x\n")
    said = written(Path("results/mine/tables/t.csv"), [inside, outside, Path("absent.csv")])
    names = {"../models/net/weights.safetensors": inside, ".../numbers.csv": outside}
    assert said["inputs"] == {name: sha256(path) for name, path in names.items()}


def test_inputs_are_those_of_the_begin(work: Path) -> None:
    source = Path("source.txt")
    source.write_text("before")
    before = sha256(source)
    run = begin_run("table", inputs=[source])
    source.write_text("after")
    run.write(Path("t.run.json"), {}, MODULES)
    assert read_json(Path("t.run.json"))["inputs"] == {"source.txt": before}


def test_a_copy_of_a_run_file_names_inputs_as_seen_from_its_place(work: Path) -> None:
    run = begin_run("train", inputs=[Path("results/mine/models/net/weights.safetensors")])
    kept = Path("results/mine/store/key/classifier")
    kept.mkdir(parents=True)
    run.write(kept / "run.json", {}, MODULES, place=Path("results/mine/models/other"))
    assert list(read_json(kept / "run.json")["inputs"]) == ["../net/weights.safetensors"]


def test_the_command_line_names_no_folder_of_the_machine(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = json.dumps({"source": "hub", "data_root": "/data/my images/voc", "label": "on/off"})
    arguments = ["--log", f"{work}/logs/a.log", f"--model={work}/m", "--published", "/opt/wolfe/config/t.csv"]
    monkeypatch.setattr("sys.argv", ["/opt/wolfe/src/wolfe/__main__.py", "table", *arguments, "--spec", spec])
    said = command()
    assert said.startswith("wolfe table --log logs/a.log --model=m --published .../t.csv --spec ")
    assert ".../voc" in said
    assert "on/off" in said
    assert not any(part in said for part in ("/opt", "my images", str(work)))


def test_an_entry_is_the_same_wherever_published_files_lie() -> None:
    entry = {"source": "hub", "collection": "voc2012", "options": [{"weights_root": "/a", "width": 1}]}
    moved = {"collection": "voc2012", "data_root": "/b", "source": "hub", "options": [{"width": 1}]}
    assert entry_checksum(entry) == entry_checksum(moved)
    assert entry_checksum(entry) != entry_checksum({**entry, "collection": "coco"})


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("tables/jma_04", "tables/jma_04.run.json"),
        ("targets/a.parquet", "targets/a.run.json"),
        ("r.html", "r.run.json"),
    ],
)
def test_run_files_lie_beside_single_files(path: str, expected: str) -> None:
    assert beside(Path(path)) == Path(expected)


def test_a_file_that_is_not_what_its_run_file_says_is_refused(work: Path) -> None:
    out = Path("t.csv")
    check_written(out)
    written(out)
    check_written(out)
    out.write_text("a,c\n")
    with pytest.raises(ValueError, match=r"t\.csv is damaged"):
        check_written(out)
    write_json(beside(out), [1])
    with pytest.raises(ValueError, match=r"t\.run\.json is not the run file that was written"):
        check_written(out)
    beside(out).unlink()
    check_written(out)
    rewrite_run(Path(), {"outputs": {"t.csv": "0" * 64}})
    with pytest.raises(ValueError, match=r"t\.csv is damaged"):
        check_written(out)
    write_json(Path("run.json"), {"outputs": {"t.csv": sha256(out)}})
    with pytest.raises(ValueError, match=r"run\.json is not the run file that was written"):
        check_written(out)


def test_a_data_set_tells_its_revision_and_the_checksum_of_every_file(work: Path) -> None:
    build_dataset("digits", {"source": "digits", "size": 8}, Path("data/digits"), 1)
    said = read_json(Path("data/digits/run.json"))
    card = read_json(Path("data/digits/card.json"))
    assert said["revision"] == card["revision"]
    assert said["outputs"] == {"card.json": sha256(Path("data/digits/card.json")), **card["checksums"]}
    origin = begin_run("train", data=Path("data/digits")).dataset
    assert origin == {name: card[name] for name in ("name", "source", "revision", "checksums")}


def test_a_damaged_card_is_left_to_the_stage(work: Path) -> None:
    (work / "card.json").write_text("[1")
    assert begin_run("train", data=work).dataset == {}
    assert list(begin_run("train", data=work).inputs) == [work / "card.json"]


def test_what_runs_say_of_themselves_is_no_part_of_their_code() -> None:
    for stage in ("experiments.attack_run", "models.training", "report.tables", "experiments.softmax", "data"):
        closure = fingerprint._closure((f"wolfe.{stage}",))
        assert not closure & {"wolfe.provenance", "wolfe.study.needs", "wolfe.verification"}, stage
        assert "wolfe.files" in closure


def test_threads_are_those_that_torch_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert provenance.threads() == 3
    monkeypatch.delitem(provenance.sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert provenance.threads() == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert provenance.threads() == os.cpu_count()
