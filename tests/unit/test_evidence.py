"""What is kept of a long study: its tables and figures, its models' scores, the machine and the command."""

from __future__ import annotations

import pandas as pd
import pytest
from benchmarks import comparison
from benchmarks.comparison import compared
from benchmarks.evidence import keep, main

from tests.unit import report_study as study
from wolfe.files import write_json
from wolfe.report.tables import write_table
from wolfe.study.document import ROOT

PUBLISHED = ROOT / "config" / "published" / "jma_table_04.csv"


def _spec(name, model):
    """A table with a row that was published, one that was and is cut, and one of ours."""
    rows = [
        study.row("jma", "jma", "JMA (0.05, 200)", published={"attack": "JMA", "params": "(0.05, 200)"}),
        study.row("lots", "lots", "LOTS 2000", published={"attack": "LOTS", "params": "2000"}, cut=True),
        study.row("ours", "jma_refined", "Refined JMA", origin="ours"),
    ]
    return {**study.table_spec(name), "model": model, "rows": rows}


def _write_table(results, spec, mse):
    """Its runs, with two successes of so large a mean square error, and the table itself."""
    attacks = results / "attacks" / spec["model"] / spec["targets"]
    for row in spec["rows"]:
        lines = [
            {"success": True, "mse": mse},
            {"success": False},
            {"success": True, "mse": 3 * mse},
            {"success": False},
        ]
        study.write_records(attacks / row["slug"], lines)
    write_table(spec, attacks, PUBLISHED, results / "tables" / spec["name"])


@pytest.fixture
def finished(tmp_path):
    """The files of a finished study: two tables, whose rows are called the same."""
    results = tmp_path / "results" / "little"
    specs = [_spec("jma_04", "net"), _spec("jma_05", "other")]
    for spec, mse in zip(specs, (1e-4, 1e-2), strict=True):
        _write_table(results, spec, mse)
    write_json(results / "study.json", {"study": "little", "tables": [*specs, {"name": "x", "kind": "one_step"}]})
    (results / "figures").mkdir()
    (results / "figures" / "f.png").write_text("P")
    metrics = {"parameters": 1234, "epochs": 3, "training_seconds": 60.0, "counts": {"train": 50}}
    write_json(results / "models" / "net" / "metrics.json", {**metrics, "test": {"accuracy": 0.98761}})
    jobs = results / "benchmarks" / "attack"
    jobs.mkdir(parents=True)
    pd.DataFrame({"s": [120.0], "max_rss": [100.4], "cpu_time": [60.0]}).to_csv(jobs / "a.tsv", sep="\t", index=False)
    return results


def test_a_readme_says_what_was_run_where_and_how_good_the_models_are(finished, tmp_path):
    folder = keep(finished, "snakemake --cores 2", ["Two rows were left out."], tmp_path / "kept")
    text = (folder / "README.md").read_text()
    for said in (
        "# little",
        "command: `snakemake --cores 2`",
        "2 thread a job",
        "versions: python 3.11.2, torch 2.13.0",
        "- Two rows were left out.",
        "jobs: 2 minutes of wall time summed, 1 minutes of processor time",
        "| net | 1234 | 50 | 3 | 60 | 0.988 |",
        "| attack/a | 120 | 60 | 100 |",
    ):
        assert said in text
    assert pd.read_csv(folder / "models.csv")["test accuracy"].tolist() == [0.9876]


def test_tables_and_figures_are_kept_and_nothing_large(finished, tmp_path):
    (finished / "models" / "net" / "weights.safetensors").write_bytes(b"large")
    folder = keep(finished, "x", [], tmp_path / "kept")
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert kept == {"README.md", "models.csv", "comparison.csv", "stages.csv", "figures/f.png"} | {
        f"tables/{name}.{kind}" for name in ("jma_04", "jma_05") for kind in ("csv", "md")
    }
    (finished / "tables" / "note.md").write_text("newer")
    keep(finished, "x", [], tmp_path / "kept")
    assert (folder / "tables" / "note.md").read_text() == "newer"


def test_an_unfinished_study_is_refused(finished, tmp_path, capsys):
    for path in (finished / "tables").glob("*.csv"):
        path.unlink()
    assert main([str(finished), "--command", "x", "--out", str(tmp_path / "kept")]) == 2
    assert "little holds no finished study" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_rows_stand_beside_the_published_ones_with_intervals(finished):
    lines = compared(finished).to_dict("records")
    assert [(line["table"], line["row"], line["images"]) for line in lines] == [
        ("jma_04", "JMA (0.05, 200)", 4),
        ("jma_05", "JMA (0.05, 200)", 4),
    ], "neither cut rows nor rows of ours"
    assert lines[0]["ASR"] == "0.50 [0.15, 0.85]"
    assert (lines[0]["published ASR"], lines[0]["MSE ratio"]) == (1.0, 1.82)
    assert lines[0]["success"] == "lower"
    assert [line["MSE"] for line in lines] == [
        "2.0e-04 [1.0e-04, 3.0e-04]",
        "2.0e-02 [1.0e-02, 3.0e-02]",
    ], "of two successes, drawn again; each of its own table's network"


def test_a_table_that_was_made_from_other_records_is_refused(finished):
    spec = _spec("jma_04", "net")
    attacks = finished / "attacks" / spec["model"] / spec["targets"]
    study.write_records(attacks / "jma", [{"success": True}] * 3)
    with pytest.raises(ValueError, match="jma holds other records than the table's"):
        compared(finished)


@pytest.mark.parametrize(
    ("successes", "images", "published", "expected"),
    [
        (180, 200, 0.9, "no difference shown"),
        (2, 4, 0.9, "no difference shown"),
        (200, 200, 0.9, "higher"),
        (100, 200, 0.9, "lower"),
    ],
)
def test_success_differs_where_chance_does_not_explain_it(successes, images, published, expected):
    assert comparison._verdict(successes, images, published) == expected


def test_rows_without_success_have_no_distance(tmp_path):
    spec = _spec("jma_04", "net")
    attacks = tmp_path / "attacks" / spec["model"] / spec["targets"]
    for row in spec["rows"]:
        study.write_records(attacks / row["slug"], [{"success": False}] * 4)
    write_table(spec, attacks, PUBLISHED, tmp_path / "tables" / "jma_04")
    write_json(tmp_path / "study.json", {"tables": [spec]})
    (line,) = compared(tmp_path).to_dict("records")
    assert line["MSE"] == ""
    assert pd.isna(line["MSE ratio"])
