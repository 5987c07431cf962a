"""What is kept of a long study: its tables and figures, its models' scores, the machine and the command."""

from __future__ import annotations

import pandas as pd
import pytest
from benchmarks import comparison
from benchmarks.comparison import compared
from benchmarks.evidence import keep, main

from wolfe.files import write_json

VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "scipy": "1.0"}


def _row(slug, images, successes, published, cut=False):
    """A line of a table's CSV."""
    share = successes / images
    ours = {"asr": share, "asr_95_low": share - 0.1, "asr_95_high": share + 0.1, "mse_mean": 2e-4, "iterations_mean": 7}
    theirs = {"published_asr": published, "published_mse": "1e-4" if published else "", "published_n_it": published}
    said = {"slug": slug, "label": slug.upper(), "images": images, "successes": successes, "budget_cut": cut}
    return said | ours | theirs


@pytest.fixture
def finished(tmp_path):
    """The files of a finished study."""
    results = tmp_path / "results" / "little"
    table = pd.DataFrame([_row("jma", 4, 2, "0.90"), _row("cut", 4, 4, "1.00", cut=True), _row("ours", 4, 4, "")])
    files = {
        "tables/a.csv": table.to_csv(index=False),
        "tables/b.csv": "x\n1\n",
        "tables/a.md": "A",
        "tables/a.tex": "B",
    }
    for name, content in {**files, "figures/f.png": "P"}.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(content)
    metrics = {"parameters": 1234, "epochs": 3, "training_seconds": 60.0, "counts": {"train": 50}}
    write_json(results / "models" / "net" / "metrics.json", {**metrics, "test": {"accuracy": 0.98761}})
    run = {"device": "NVIDIA H100", "threads": 4, "versions": VERSIONS}
    write_json(results / "attacks" / "net" / "other_class" / "jma" / "run.json", run)
    records = pd.DataFrame({"success": [True, False, True, False], "mse": [1e-4, 9.0, 3e-4, 9.0]})
    records.to_parquet(results / "attacks" / "net" / "other_class" / "jma" / "records.parquet")
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
        "device: NVIDIA H100",
        "versions: python 3.11.7, torch 2.13.0",
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
        f"tables/{name}" for name in ("a.csv", "a.md", "b.csv")
    }
    (finished / "tables" / "b.csv").write_text("x\n2\n")
    keep(finished, "x", [], tmp_path / "kept")
    assert (folder / "tables" / "b.csv").read_text() == "x\n2\n", "the newer one"


def test_an_unfinished_study_is_refused(finished, tmp_path, capsys):
    for path in (finished / "tables").glob("*.csv"):
        path.unlink()
    assert main([str(finished), "--command", "x", "--out", str(tmp_path / "kept")]) == 2
    assert "little holds no finished study" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_rows_stand_beside_the_published_ones_with_intervals(finished):
    (line,) = compared(finished).to_dict("records")
    assert (line["table"], line["row"], line["images"]) == ("a", "JMA", 4), "neither cut rows nor rows of ours"
    assert line["ASR"] == "0.50 [0.40, 0.60]"
    assert (line["published ASR"], line["MSE ratio"]) == (0.9, 2.0)
    assert line["MSE"] == "2.0e-04 [1.0e-04, 3.0e-04]", "of two successes, drawn again"


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


def test_rows_without_success_have_no_distance(finished):
    folder = finished / "attacks" / "net" / "other_class" / "jma"
    pd.DataFrame({"success": [False] * 4, "mse": [1.0] * 4}).to_parquet(folder / "records.parquet")
    pd.DataFrame([_row("jma", 4, 0, "0.90")]).to_csv(finished / "tables" / "a.csv", index=False)
    (line,) = compared(finished).to_dict("records")
    assert line["MSE"] == ""
    assert pd.isna(line["MSE ratio"])
