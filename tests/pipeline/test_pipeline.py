"""The whole pipeline on a tiny study: what is made, what is made again, and what is not."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from wolfe.files import read_json, sha256
from wolfe.study import load_study
from wolfe.verification import differing_tables, verify

from ..faults.stages import Server
from .conftest import ROOT, TINY, snakemake

RESULTS = Path("results") / "tiny"
NUMBERS = ("data", "models", "targets", "attacks", "transfer", "experiments", "geometry")


def test_every_target_is_made(finished: Path) -> None:
    study, results = load_study(TINY), finished / RESULTS
    expected = [results / "report.html"]
    expected += [results / "tables" / f"{name}.{kind}" for name in study.tables for kind in ("csv", "md", "tex")]
    expected += [results / "figures" / f"{name}.{kind}" for name in study.figures for kind in ("pdf", "png")]
    assert [str(file) for file in expected if not file.is_file() or not file.stat().st_size] == []
    page = (results / "report.html").read_text(encoding="utf-8")
    assert all(table["title"] in page for table in study.tables.values())


def test_records_hold_one_row_an_image_and_manifests_the_checksums(finished: Path) -> None:
    study = load_study(TINY)
    tables = [table for table in study.tables.values() if table["kind"] == "attacks"]
    images = {(row["slug"], table["targets"]): table["images"] for table in tables for row in table["rows"]}
    variants = study.tables["variants"]["rows"]
    images |= {(line["variant"]["slug"], line["targets"]): line["images"] for line in variants}
    for batch in study.batches:
        for row in batch.rows:
            folder = finished / RESULTS / "attacks" / batch.model / batch.targets / row["slug"]
            assert len(pd.read_parquet(folder / "records.parquet")) == images[row["slug"], batch.targets]
            outputs = json.loads((folder / "run.json").read_text())["outputs"]
            assert {name: sha256(folder / name) for name in outputs} == outputs
            trace = {"trace.parquet"} if row["attack"] == "jma" or "followed" in batch.tables else set()
            assert set(outputs) == {"records.parquet", "adversarials.safetensors", *trace}


def test_every_job_leaves_a_log(finished: Path) -> None:
    logs = {str(file.relative_to(finished / RESULTS / "logs")) for file in (finished / RESULTS).rglob("*.log")}
    assert {"report.log", "train/vgg.log", "attack/codes.log", "targets/labels/flip_bits_3_any.log"} <= logs


def test_the_graph_in_the_report_is_that_of_snakemake(finished: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "dot", "--configfile", str(TINY)]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(finished)]
    theirs = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=True).stdout
    assert _edges((finished / RESULTS / "rulegraph.dot").read_text()) == _edges(theirs)


def _edges(dot: str) -> set[tuple[str, str]]:
    """Edges by name; a rule that waits for another job of its own (an ensemble for its bottom) is left out."""
    labels = dict(re.findall(r'(\d+)\s*\[label\s*=\s*"(\w+)"', dot))
    edges = {(labels[tail], labels[head]) for tail, head in re.findall(r"(\d+)\s*->\s*(\d+)", dot)}
    return {(tail, head) for tail, head in edges if tail != head}


def test_a_second_run_does_nothing_and_says_so(finished: Path) -> None:
    assert snakemake(finished).nothing_to_do


def test_a_changed_parameter_runs_its_row_only(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    before = _store(folder)
    study = yaml.safe_load(TINY.read_text())
    study["tables"]["codes"]["rows"][1]["max_iterations"] = 12
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(study))
    run = snakemake(folder, "table_codes", study=changed)
    assert run.planned == {"attack_codes": 1, "table": 1, "table_codes": 1}, run.text
    new = {name: time for name, time in _store(folder).items() if before.get(name) != time}
    assert len({name.split("/")[0] for name in new}) == 1, "one row, so one key"
    assert len(before) + len(new) == len(_store(folder)), "what was finished stays as it was"
    rows = pd.read_csv(folder / RESULTS / "tables" / "codes.csv")
    assert len(rows) == 2


def _store(folder: Path) -> dict[str, int]:
    store = folder / RESULTS / "store"
    return {str(file.relative_to(store)): file.stat().st_mtime_ns for file in store.rglob("*") if file.is_file()}


def test_comments_run_nothing_again_and_code_runs_what_uses_it(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for name in ("src", "workflow", "config", "envs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copy(ROOT / "Snakefile", copy / "Snakefile")
    (copy / "profiles").symlink_to("workflow/profiles")
    records = [str(file.relative_to(finished)) for file in (finished / RESULTS / "attacks").rglob("records.parquet")]
    module = copy / "src" / "wolfe" / "attacks" / "lots.py"
    source = module.read_text()

    module.write_text(f"# A remark.\n{source}".replace('"""LOTS:', '"""LOTS, in other words:'))
    assert "other words" in module.read_text()
    assert snakemake(finished, "--dry-run", *records, snakefile=copy / "Snakefile").nothing_to_do

    module.write_text(source + "\nANSWER = 42\n")
    run = snakemake(finished, "--dry-run", *records, snakefile=copy / "Snakefile")
    assert run.planned == {"attack_codes": 1}, run.text


def test_every_result_has_a_run_file_and_verifies(finished: Path) -> None:
    found = verify(finished / RESULTS)
    assert (found.wrong, found.differing, found.remarks) == ([], [], [])
    study = load_study(TINY)
    assert found.runs >= len(study.tables) + len(study.figures) + len(study.models) + len(study.experiments)
    text = (finished / RESULTS / "tables" / "one_hot.run.json").read_text()
    assert str(finished) not in text
    assert str(ROOT) not in text
    run = read_json(finished / RESULTS / "models" / "vgg" / "run.json")
    assert run["study"] == study.report_spec()["sha256"]
    assert run["command"].startswith("wolfe --log results/tiny/logs/train/vgg.log train vgg --spec ")


def test_damage_is_named_and_made_good_on_request(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(finished, folder)
    results = folder / RESULTS
    records = next((results / "attacks" / "ecoc").glob("*/lots-*/records.parquet"))
    shard = next((results / "store").glob("*/shard-0000/adversarials.safetensors"))
    targets, table = results / "targets" / "vgg" / "other_class.parquet", results / "tables" / "codes.csv"
    for file in (shard, targets, table, results / "models" / "vgg" / "weights.safetensors", records):
        kept = file.read_bytes()
        file.write_bytes(kept[:-40] + bytes([kept[-40] ^ 1]) + kept[-39:])
        named = [line.split(" (")[0] for line in verify(results).wrong if line.startswith("damaged: ")]
        assert named == [f"damaged: {file.relative_to(results)}"]
        if file != records:
            file.write_bytes(kept)
    command = [sys.executable, "-m", "wolfe", "verify", str(results)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, str(records.relative_to(results)) in ended.stdout) == (1, True)
    records.unlink()
    run = snakemake(folder, str(records.relative_to(folder)))
    assert run.planned == {"attack_codes": 1}, run.text
    assert verify(results).wrong == [], "put together again from the store"


def test_two_runs_give_the_same_results_but_for_times(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_commands(tmp_path, monkeypatch)
    again, before = tmp_path / RESULTS, finished / RESULTS
    assert differing_tables(again, before) == []
    assert len(list(again.glob("tables/*.csv"))) == len(load_study(TINY).tables)
    written = [file.relative_to(again) for stage in NUMBERS for file in (again / stage).rglob("*.*")]
    same = ("card.json", "classifier.json", "geometry.json")
    exact = [name for name in written if name.suffix == ".safetensors" or name.name in same]
    assert [name for name in exact if sha256(again / name) != sha256(before / name)] == []
    records = [name for name in written if name.suffix == ".parquet"]
    for name in records:
        pd.testing.assert_frame_equal(_untimed(again / name), _untimed(before / name), check_exact=True, obj=str(name))
    assert min(len(exact), len(records)) > len(load_study(TINY).tables)
    assert verify(again).wrong == []


def _run_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the study's jobs without Snakemake, one after the other and with an empty store, but for its drawings.

    They are children of one process that has loaded everything: most of a small job's time is that of its imports.
    """
    environment = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)  # the children end without saying what they have covered
    plan = snakemake(folder, "--dry-run", "--printshellcmds")
    commands = [shlex.split(line) for line in plan.text.splitlines() if "python -m wolfe --log" in line]
    assert commands, plan.text
    server = Server()
    for command in commands:
        log, file, stage, *arguments = command[command.index("wolfe") + 1 :]
        if stage not in ("figure", "report"):
            ended = server.run(folder, (log, file, stage, *arguments))
            assert ended.code == 0, ended.text


def _untimed(records: Path) -> pd.DataFrame:
    table = pd.read_parquet(records)
    return table.drop(columns=[name for name in table if "seconds" in name])
