"""Verifying results: everything that is wrong is named in a line, and what is well is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wolfe import provenance
from wolfe.cli import app
from wolfe.experiments.store import Store
from wolfe.files import content_checksum, read_json, sha256, write_json
from wolfe.provenance import begin_run, checksums
from wolfe.study.document import PUBLISHED_FOLDER
from wolfe.verification import Findings, verify

MODULES = ("wolfe.names",)
TABLE, MODEL, SET = {"name": "one"}, {"dataset": "digits"}, {"source": "digits"}
RECORDS = "attacks/net/other_class/jma/records.parquet"
WEIGHTS = "models/net/weights.safetensors"


def stage(
    results: Path, run_file: str, outputs: list[str], inputs: list[str] | None = None, entry: dict | None = None
) -> None:
    """Writes the files of a stage and its run file, as stages do."""
    run = begin_run("stage", entry, [results / name for name in inputs or []])
    for name in outputs:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(f"contents of {name}\n")
    run.write(results / run_file, checksums(results / name for name in outputs), MODULES)


def write_study(results: Path) -> None:
    """The resolved study, as the workflow writes it."""
    figures = [{"name": "picture"}]
    told = {"study": "mine", "datasets": {"digits": SET}, "models": {"net": MODEL}}
    told |= {"tables": [TABLE], "figures": figures}
    write_json(results / "study.json", told | {"sha256": content_checksum(told)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished study in which each stage has one result."""
    results = tmp_path_factory.mktemp("study") / "results" / "mine"
    stage(results, "data/digits/run.json", ["data/digits/card.json"], entry=SET)
    stage(results, "models/net/run.json", [WEIGHTS], ["data/digits/card.json"], MODEL)
    stage(results, "targets/net/other_class.run.json", ["targets/net/other_class.parquet"], [WEIGHTS])
    stage(results, f"{Path(RECORDS).parent}/run.json", [RECORDS], [WEIGHTS, "targets/net/other_class.parquet"])
    stage(results, "tables/one.run.json", ["tables/one.csv", "tables/one.md"], [RECORDS], TABLE)
    stage(results, "figures/picture.run.json", ["figures/picture.png"], [RECORDS])
    write_study(results)
    stage(results, "report.run.json", ["report.html"], ["tables/one.csv"], read_json(results / "study.json"))
    store = Store(results / "store")
    store.piece(store.key(a=1), "shard-0000", lambda folder: (folder / "records.parquet").write_text("kept"))
    stage(results, "store/0123/classifier/run.json", ["store/0123/classifier/weights.safetensors"])
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "results" / "mine"))


def flip(file: Path) -> None:
    """Changes one bit of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def change(run_file: Path, content: dict) -> None:
    """Writes a run file anew, as a stage would have."""
    unsigned = {key: value for key, value in content.items() if key != "sha256"}
    write_json(run_file, unsigned | {"sha256": content_checksum(unsigned)})


def test_nothing_is_wrong_with_results_as_they_were_written_or_moved(results: Path) -> None:
    assert verify(results) == Findings(runs=7, files=10, pieces=2)


@pytest.mark.parametrize(
    "name", [RECORDS, WEIGHTS, "tables/one.csv", "figures/picture.png", "data/digits/card.json", "report.html"]
)
def test_a_flipped_bit_is_named(results: Path, name: str) -> None:
    flip(results / name)
    wrong = verify(results).wrong
    assert [line for line in wrong if line.startswith("damaged: ")] == [
        f"damaged: {name} (not the file that was written: delete it and run its stage again)"
    ]
    assert all(name in line for line in wrong), "others are only stale by it"


@pytest.mark.parametrize("name", ["tables/one.run.json", "store/0123/classifier/run.json"])
def test_no_change_of_a_run_file_passes(results: Path, name: str) -> None:
    """Not of its own checksum either, nor of the word before it."""
    file = results / name
    whole = file.read_bytes()
    for place in range(0, len(whole) - 1, 5):  # the last byte ends the line
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert any(line.startswith("damaged: ") and name in line for line in verify(results).wrong), place


def test_what_was_made_from_it_is_stale(results: Path) -> None:
    stage(results, "models/net/run.json", [WEIGHTS], ["data/digits/card.json"], MODEL)
    assert verify(results).wrong == []
    (results / WEIGHTS).write_text("trained again")
    run = read_json(results / "models/net/run.json")
    change(results / "models/net/run.json", run | {"outputs": {"weights.safetensors": sha256(results / WEIGHTS)}})
    why = f"(made from another {WEIGHTS} than there is now: run its stage again)"
    assert verify(results).wrong == [
        f"stale: targets/net/other_class.run.json {why}",
        f"stale: attacks/net/other_class/jma/run.json {why}",
    ]


def test_a_missing_file_is_named(results: Path) -> None:
    (results / RECORDS).unlink()
    assert verify(results).wrong == [
        f"missing: {RECORDS} (it was written once: run its stage again)",
        f"missing: {RECORDS} (tables/one.run.json says that it was read)",
        f"missing: {RECORDS} (figures/picture.run.json says that it was read)",
    ]


def test_results_of_which_nobody_tells_are_named(results: Path) -> None:
    (results / "tables" / "one.run.json").unlink()
    shutil.rmtree(results / "figures")
    assert verify(results).wrong == [
        "unknown: tables/one.csv (no run file tells of it: run its stage again)",
        "unknown: tables/one.md (no run file tells of it: run its stage again)",
        "missing: tables/one.run.json (the study wants what it tells of)",
        "missing: figures/picture.run.json (the study wants what it tells of)",
    ]


@pytest.mark.parametrize(
    "content",
    ["[1]", '{"outputs": ', "{}", '{"outputs": {"a": "short"}}', '{"outputs": {"a\\nb": "' + "0" * 64 + '"}}'],
)
def test_run_files_that_are_none_are_named(results: Path, content: str) -> None:
    (results / "figures" / "picture.run.json").write_text(content)
    assert "damaged: figures/picture.run.json (not the run file that a stage has written: run the stage again)" in (
        verify(results).wrong
    )


def test_a_run_file_that_was_edited_is_named(results: Path) -> None:
    run = read_json(results / "tables" / "one.run.json")
    write_json(results / "tables" / "one.run.json", run | {"seed": 8})
    assert "damaged: tables/one.run.json (not the run file that a stage has written: run the stage again)" in (
        verify(results).wrong
    )


@pytest.mark.parametrize("name", ["tables/one.run.json", "models/net/run.json", "store/0123/classifier/run.json"])
@pytest.mark.parametrize("gone", [{"sha256"}, {"sha256", "stage"}])
def test_a_run_file_without_a_checksum_is_named(results: Path, name: str, gone: set[str]) -> None:
    content = read_json(results / name)
    write_json(results / name, {key: value for key, value in content.items() if key not in gone})
    assert [line.split(" (")[0] for line in verify(results).wrong if name in line][:1] == [f"damaged: {name}"]


@pytest.mark.parametrize("name", ["../../../../secret", "/etc/hostname", "../one.csv"])
def test_run_files_cannot_name_outputs_elsewhere(results: Path, name: str) -> None:
    run = read_json(results / "tables" / "one.run.json")
    change(results / "tables" / "one.run.json", run | {"outputs": run["outputs"] | {name: "0" * 64}})
    assert verify(results).wrong == [f"damaged: tables/one.run.json (names an output outside its folder: {name})"]


def test_pieces_of_the_store_must_be_whole(results: Path) -> None:
    (shard,) = results.glob("store/*/shard-0000/records.parquet")
    flip(shard)
    (results / "store" / "0123" / "classifier" / "weights.safetensors").unlink()
    (results / "store" / "4567" / ".89ab.shard-0001").mkdir(parents=True)
    (results / "store" / "4567" / ".89ab.shard-0001" / "manifest.json").write_text("{")
    (results / "store" / "4567" / "shard-0002").mkdir()
    (results / "store" / "4567" / "shard-0002" / "manifest.json").write_text("{")
    assert sorted(line.split(" (")[0] for line in verify(results).wrong) == sorted(
        [
            "damaged: store/4567/shard-0002/manifest.json",
            f"damaged: {shard.relative_to(results)}",
            "missing: store/0123/classifier/weights.safetensors",
        ]
    )


def first_shard(results: Path) -> Path:
    (manifest,) = results.glob("store/*/shard-0000/manifest.json")
    return manifest.parent


def test_lists_of_the_store_that_do_not_tell_of_a_file_are_named(results: Path) -> None:
    shard = first_shard(results)
    name, remedy = shard.relative_to(results), "delete its folder: the piece of work is made again when it is needed"
    sums = read_json(shard / "manifest.json")
    (shard / "trace.parquet").write_text("kept too")
    assert verify(results).wrong == [f"unknown: {name}/trace.parquet (its piece of work does not tell of it; {remedy})"]
    write_json(shard / "manifest.json", sums | {"trace.parquet": sha256(shard / "trace.parquet")})
    assert verify(results).wrong == []
    for empty in ({}, None):
        write_json(shard / "manifest.json", empty)
        assert [line.split(" (")[0] for line in verify(results).wrong] == [f"damaged: {name}/manifest.json"]
    (shard / "manifest.json").unlink()
    assert [line.split(" (")[0] for line in verify(results).wrong] == [f"damaged: {name}/manifest.json"]


def test_only_pieces_of_work_lie_in_the_store_and_any_may_be_deleted(results: Path) -> None:
    store = results / "store"
    (store / "notes.txt").write_text("mine")
    (store / "0123" / "notes.txt").write_text("mine")
    (store / "0123" / "classifier" / "notes.txt").write_text("mine")
    (store / "4567" / "checkpoints").mkdir(parents=True)
    (store / "4567" / "checkpoints" / "epoch-0001.safetensors").write_text("unfinished")
    assert [line.split(" (")[0] for line in verify(results).wrong] == [
        "unknown: store/0123/classifier/notes.txt",
        "unknown: store/0123/notes.txt",
        "unknown: store/notes.txt",
    ]
    (store / "notes.txt").unlink()
    shutil.rmtree(store / "0123")
    shutil.rmtree(first_shard(results))
    assert verify(results).wrong == []
    shutil.rmtree(store)
    assert verify(results) == Findings(runs=7, files=8)


def test_a_study_that_says_something_else_now_makes_its_results_stale(results: Path) -> None:
    study = read_json(results / "study.json")
    told = {key: value for key, value in study.items() if key != "sha256"} | {"tables": [{**TABLE, "title": "Other"}]}
    write_json(results / "study.json", told | {"sha256": content_checksum(told)})
    stale = "made when the study said otherwise: run its stage again"
    assert verify(results).wrong == [f"stale: tables/one.run.json ({stale})", f"stale: report.run.json ({stale})"]
    write_json(results / "study.json", study | {"seed": 4})
    assert verify(results).wrong == [
        "damaged: study.json (not the file that was written: delete it and make the report again)"
    ]


def test_other_code_packages_and_studies_differ_but_are_not_wrong(results: Path) -> None:
    run = read_json(results / "tables" / "one.run.json")
    then = {"code": "0" * 16, "study": "0" * 64, "versions": run["versions"] | {"numpy": "1.0", "gone": "2.0"}}
    change(results / "tables" / "one.run.json", run | then)
    figure = read_json(results / "figures" / "picture.run.json")
    change(results / "figures" / "picture.run.json", figure | {"modules": ["wolfe.removed"]})
    found = verify(results)
    assert found.wrong == []
    numpy = provenance.versions()["numpy"]
    assert found.differing == [
        "study: 1 run of 7 when the study was another",
        "code: 2 runs of the stage stage by other code than there is now",
        "package: 1 run with gone 2.0, none is there now",
        f"package: 1 run with numpy 1.0, {numpy} is there now",
    ]


def test_modules_of_a_stranger_are_not_looked_at(results: Path) -> None:
    run = read_json(results / "tables" / "one.run.json")
    for modules in (["wolfe./etc/passwd"], ["os"], "wolfe.names", [3]):
        change(results / "tables" / "one.run.json", run | {"modules": modules, "versions": [1]})
        assert verify(results).differing == []


def test_a_part_of_a_study_is_remarked_on(results: Path) -> None:
    for name in ("study.json", "report.html", "report.run.json"):
        (results / name).unlink()
    found = verify(results)
    assert found.wrong == []
    assert found.remarks == ["study.json is not there (a full run writes it): what is wanted is not known"]


def test_a_study_that_made_a_report_must_be_there(results: Path) -> None:
    run = read_json(results / "report.run.json")
    change(results / "report.run.json", run | {"study": read_json(results / "study.json")["sha256"]})
    assert verify(results).wrong == []
    (results / "study.json").unlink()
    found = verify(results)
    why = "report.run.json says that a study made it: make the report again"
    assert (found.wrong, found.remarks) == ([f"missing: study.json ({why})"], [])


@pytest.mark.parametrize(
    "more",
    [
        {"models": [MODEL]},
        {"models": {"net": 3}},
        {"datasets": None},
        {"tables": {"one": TABLE}},
        {"tables": ["one"]},
        {"tables": [{"title": "of no name"}]},
        {"figures": [{"name": 3}]},
        {"figures": [{"name": "../picture"}]},
        {"models": {"/etc": MODEL}},
    ],
)
def test_a_study_that_is_none_is_damaged(results: Path, more: dict) -> None:
    """Though its checksum is right."""
    told = {key: value for key, value in read_json(results / "study.json").items() if key != "sha256"} | more
    write_json(results / "study.json", told | {"sha256": content_checksum(told)})
    assert verify(results).wrong == [
        "damaged: study.json (not the file that was written: delete it and make the report again)"
    ]


def test_what_lies_beside_the_results_is_named(results: Path) -> None:
    (results / "notes.txt").write_text("mine")
    (results / "more").mkdir()
    (results / ".snakemake_timestamp").touch()
    for name in ("logs", "benchmarks", "parts"):
        (results / name).mkdir()
    (results / "rulegraph.dot").touch()
    assert verify(results).wrong == [
        "unknown: more (no stage writes it there: move it elsewhere)",
        "unknown: notes.txt (no stage writes it there: move it elsewhere)",
    ]


def test_published_tables_are_found_wherever_results_lie(results: Path) -> None:
    published = next(PUBLISHED_FOLDER.glob("*.csv"))
    run = read_json(results / "tables" / "one.run.json")
    for checksum, wrong in ((sha256(published), 0), ("0" * 64, 1)):
        change(results / "tables" / "one.run.json", run | {"inputs": {f".../{published.name}": checksum}})
        assert len(verify(results).wrong) == wrong
    change(results / "tables" / "one.run.json", run | {"inputs": {".../mine.csv": "0" * 64}})
    found = verify(results)
    assert found.wrong == []
    assert found.remarks == ["tables/one.run.json: made from .../mine.csv, which is not here to be looked at"]


def call(*arguments: object) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["verify", *(str(argument) for argument in arguments)])
    return result.exit_code, result.output.splitlines()


def test_the_command_ends_with_a_summary_and_exit_code_1_where_anything_is_wrong(results: Path) -> None:
    checked = f"{results}: 7 runs, 10 files and 2 pieces of the store checked"
    assert call(results) == (0, [f"{checked}: all is well"])
    run = read_json(results / "tables" / "one.run.json")
    change(results / "tables" / "one.run.json", run | {"code": "0" * 16})
    code, lines = call(results)
    assert (code, lines[-1]) == (0, f"{checked}: all is well, 1 difference to what is in force now")
    assert call(results, "--strict")[0] == 1
    flip(results / "report.html")
    code, lines = call(results)
    assert (code, len(lines)) == (1, 3)
    assert lines[0].startswith("damaged: report.html")


def test_folders_that_are_no_study_are_refused(tmp_path: Path) -> None:
    assert call(tmp_path)[0] == 2
    assert call(tmp_path)[1] == [
        f"Error: {tmp_path} holds no results of a study: none of data, models, targets, attacks, transfer, "
        "experiments, geometry, tables, figures"
    ]
    assert call(tmp_path / "none")[1][0].endswith(
        "none is no folder: name the results of a study, e.g. results/embedded"
    )


def test_links_pipes_and_what_stands_for_a_folder_are_named(results: Path, tmp_path: Path) -> None:
    """Nothing behind a link is looked at, and nothing waits for a pipe."""
    (results / "attacks").rename(tmp_path / "attacks")
    (results / "attacks").symlink_to(tmp_path / "attacks")
    shutil.rmtree(results / "store")
    (results / "store").touch()
    os.mkfifo(results / "models" / "net" / "pipe")
    (results / "tables" / "gone.csv").symlink_to("nowhere.csv")
    (results / "study.json").unlink()
    (results / "study.json").mkdir()
    named = {line.split(" (")[0] for line in verify(results).wrong}
    assert {"unknown: attacks", "unknown: store", "unknown: models/net/pipe", "unknown: tables/gone.csv"} <= named
    assert "damaged: study.json" in named


def test_the_command_compares_with_another_run(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "again")
    assert call(results, "--against", tmp_path / "again")[0] == 0
    flip(tmp_path / "again" / "tables" / "one.csv")
    code, lines = call(results, "--against", tmp_path / "again")
    assert (code, lines[0]) == (1, "differs: tables/one.csv")
