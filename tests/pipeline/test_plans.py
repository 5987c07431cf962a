"""What Snakemake would do, without doing it: targets, studies, profiles, and studies that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, TINY, snakemake


def test_one_table_plans_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "table_one_hot")
    expected = dict.fromkeys(("dataset", "train", "targets", "attack_one_hot", "table", "table_one_hot"), 1)
    assert run.planned == expected, run.text


def test_a_number_plans_all_its_sub_tables(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "table_labels_1")
    assert run.planned["table"] == 2, run.text
    assert {"attack_labels_1a", "attack_labels_1b", "table_labels_1"} <= set(run.planned)
    assert run.planned["train"] == 2


def test_a_derived_table_plans_the_tables_that_it_sums_up(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "table_steps")
    jobs = {name for name in run.planned if name.startswith("attack_")}
    assert jobs == {"attack_one_hot", "attack_codes", "attack_labels_1b"}, run.text
    assert run.planned["table"] == 1


def test_a_geometry_needs_no_attack(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "figure_geometry")
    expected = dict.fromkeys(("dataset", "train", "targets", "geometry", "geometry_figure", "figure_geometry"), 1)
    assert run.planned == expected, run.text


def test_a_map_of_transfer_asks_each_set_of_classifiers_once(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "figure_transfer_matrix")
    jobs = {name for name in run.planned if name.startswith("attack_")}
    assert jobs == {"attack_one_hot", "attack_codes", "attack_labels_1a", "attack_labels_1b"}, run.text
    assert {name: run.planned[name] for name in ("transfer", "table", "transfer_figure", "train")} == {
        "transfer": 2,
        "table": 1,
        "transfer_figure": 1,
        "train": 4,
    }


def test_two_dimensions_need_no_data_and_no_model(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "figure_losses_6")
    assert run.planned == {"experiment": 1, "chart": 1, "figure_losses_6": 1}, run.text


def test_detectors_need_the_attacks_that_they_learn_and_are_tested_on(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", "table_detection_matrix")
    expected = {"dataset": 1, "train": 2, "targets": 2, "attack_followed": 1, "attack_learnt": 1, "experiment": 1}
    assert run.planned == {**expected, "table": 1, "table_detection_matrix": 1}, run.text


def test_losses_are_followed_on_one_model_and_a_softmax_on_all_of_its_own(tmp_path: Path) -> None:
    losses = snakemake(tmp_path, "--dry-run", "figure_losses_4").planned
    expected = dict.fromkeys(("dataset", "train", "targets", "attack_followed", "chart", "figure_losses_4"), 1)
    assert losses == expected
    softmax = snakemake(tmp_path, "--dry-run", "table_softmax_predictors").planned
    names = {"dataset": 1, "train": 2, "experiment": 1, "table": 1, "table_softmax_predictors": 1}
    assert softmax == names


def test_an_ensemble_brings_the_network_it_starts_from(tmp_path: Path) -> None:
    assert snakemake(tmp_path, "--dry-run", "figure_codes").planned["train"] == 2


def test_without_a_study_the_default_one_is_planned(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run", study=None)
    assert (run.planned["train"], run.planned["table"]) == (14, 34)
    assert "results/embedded/report.html" in run.text


def test_studies_do_not_mix(tmp_path: Path) -> None:
    run = snakemake(tmp_path, "--dry-run")
    assert run.planned["table"] == 16
    assert "embedded" not in run.text
    assert "digits_vgg16" not in run.text


def test_a_value_on_the_command_line_changes_the_default_study(tmp_path: Path) -> None:
    run = snakemake(
        tmp_path, "--dry-run", "table_jma_08", "--config", "study=mine", 'limits={"images": 14}', study=None
    )
    assert run.code == 0, run.text
    assert "The table is in results/mine/tables/jma_08" in run.text


@pytest.mark.parametrize("calibrate", ["true", "false"])
def test_a_calibration_is_an_output_of_training_where_the_study_wants_one(tmp_path: Path, calibrate: str) -> None:
    config = ("--config", f'limits={{"calibrate": {calibrate}}}')
    run = snakemake(tmp_path, "--dry-run", "table_one_hot", "--printshellcmds", "--quiet", "host", *config)
    assert run.code == 0, run.text
    wanted = calibrate == "true"
    assert ("--calibrate" in run.text) == wanted
    reasons = [line for line in run.text.splitlines() if "calibration.json" in line]
    assert len(reasons) == 2 * wanted, "an output of the training, an input of the attacks"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"attack": "jmaa"}, "unknown attack 'jmaa'; did you mean 'jma'? allowed: jma, jma_refined, carlini_wagner"),
        ({"attack": "jma", "step_sise": 1}, "step_sise: unknown key; did you mean 'step_size'?"),
    ],
)
def test_a_wrong_study_ends_before_any_work(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    study = yaml.safe_load(TINY.read_text())
    study["tables"]["codes"]["rows"][0] = change
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(study))
    run = snakemake(tmp_path, study=wrong)
    assert run.code != 0
    assert expected in run.text
    assert "Traceback" not in run.text
    assert len(run.text.splitlines()) < 8
    assert not (tmp_path / "results").exists()


def test_the_slurm_profile_is_planned(tmp_path: Path) -> None:
    profile = str(ROOT / "workflow" / "profiles" / "slurm")
    run = snakemake(tmp_path, "--dry-run", "--quiet", "host", "--profile", profile, "--cores", "16", study=None)
    assert run.code == 0, run.text
    assert run.planned["report"] == 1


def test_the_slurm_profile_says_what_a_cluster_needs() -> None:
    folder = ROOT / "workflow" / "profiles" / "slurm"
    profile = yaml.safe_load((folder / "config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["slurm-status-command"] == "squeue"
    assert {"slurm_account", "mem_mb", "runtime"} == set(profile["default-resources"])
    assert profile["default-resources"]["mem_mb"] >= 500
    partitions = yaml.safe_load((folder / profile["slurm-partition-config"]).read_text())["partitions"]
    assert sorted(limits.get("max_gpu", 0) for limits in partitions.values()) == [0, 1]


def test_the_published_scale_is_planned_whole_with_what_its_jobs_ask_for(tmp_path: Path) -> None:
    study = ROOT / "config" / "paper.yaml"
    config = ("--config", "data_root=images", "weights_root=weights")
    run = snakemake(tmp_path, "--dry-run", "--printshellcmds", *config, study=study)
    assert run.code == 0, run.text
    tables = yaml.safe_load(study.read_text())["tables"]
    assert run.planned["table"] == len(tables)
    planned = {name.removeprefix("attack_") for name in run.planned if name.startswith("attack_")}
    attacked = {name for name, table in tables.items() if table.get("kind", "attacks") == "attacks"}
    assert attacked <= planned
    for said in ("images/coco", "images/voc2012", "images/imagenet21k", "weights_root"):
        assert said in run.text


def test_what_must_be_fetched_may_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study whose files lie in no folder asks the hub for them: here one that nobody answers for."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    study = ROOT / "config" / "paper.yaml"
    run = snakemake(tmp_path, "table_jma_05", "--until", "dataset", study=study)
    assert run.code != 0
    assert "ylecun/mnist cannot be fetched here" in run.text
    assert "outgoing traffic has been disabled" not in run.text


def test_a_second_file_adds_to_the_first(tmp_path: Path) -> None:
    config = ROOT / "config"
    run = snakemake(
        tmp_path, "--dry-run", "--configfile", str(config / "real.yaml"), str(config / "real_narrow.yaml"), study=None
    )
    assert run.code == 0, run.text
    assert run.planned["train"] == 6
    assert "results/real_narrow/report.html" in run.text
