"""Experiments in a study: what they are resolved to, which files they read, and what is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest

from wolfe.study import Study, StudyError, rule_graph
from wolfe.study.needs import chart_files, experiment_files, table_files, table_folder

from .test_study import small_study

DETECTORS = [
    {"name": "VGG-16", "network": {"name": "vgg16", "width": 0.1}, "start": "vgg"},
    {"name": "A", "network": {"name": "vgg16"}},
]
CURVES = {"kind": "softmax_curves", "title": "x", "experiment": "softmax", "which": "both"}
STEPS = {
    "title": "Steps",
    "model": "vgg",
    "targets": {"rule": "other_class"},
    "images": 40,
    "rows": [{"attack": "gradient", "label": "CE"}, {"attack": "ifgs"}],
}


def with_experiments(**changes: Any) -> dict[str, Any]:
    """A small study with one experiment of each kind and something that shows each; `changes` replace experiments."""
    config = small_study()
    config["models"]["other"] = config["models"]["vgg"]
    config["experiments"] = {
        "circles": {"kind": "circles"},
        "softmax": {"kind": "softmax", "models": ["vgg", "other"]},
        "detection": {
            "kind": "detection",
            "learn": "steps",
            "tested": ["first"],
            "detectors": DETECTORS,
            "single": ["A"],
        },
        **changes,
    }
    config["transfers"] = {"others": {"models": ["vgg", "ecoc"], "tables": ["first"]}}
    config["tables"] |= {
        "steps": STEPS,
        "losses_1": {"kind": "losses", "title": "Losses", "table": "steps"},
        "matrix": {"kind": "detection_matrix", "title": "Detection", "experiment": "detection"},
        "predictors": {"kind": "softmax_predictors", "title": "Predictors", "experiment": "softmax"},
    }
    config["figures"] = {
        "losses_6": {"kind": "circles", "title": "Circles", "experiment": "circles"},
        "losses_1": {"kind": "losses", "title": "Path", "table": "steps", "show": "path"},
    }
    return config


def test_experiments_name_their_data_models_and_runs() -> None:
    study = Study.from_config(with_experiments())
    detection = study.experiments["detection"]
    assert (detection["source"], detection["learn"]["table"]) == ("vgg", "steps")
    assert [row["attack"] for row in detection["learn"]["rows"]] == ["gradient", "ifgs"]
    assert detection["learn"]["rows"][0]["label"] == "CE"
    assert [part["table"] for part in detection["tested"]] == ["first"]
    assert study.experiments["softmax"]["dataset"] == study.models["vgg"]["dataset"]


def test_what_is_shown_step_by_step_is_written_down_and_nothing_else() -> None:
    study = Study.from_config(with_experiments())
    traces = {(batch.tables[0], row["attack"]): row["trace"] for batch in study.batches for row in batch.rows}
    assert traces["steps", "gradient"] == traces["steps", "ifgs"] == "steps"
    assert traces["first", "jma"] == "jacobian"
    config = with_experiments()
    del config["tables"]["losses_1"], config["figures"]["losses_1"]
    batches = Study.from_config(config).batches
    assert {row["trace"] for batch in batches for row in batch.rows if batch.tables == ("steps",)} == {None}


def test_files_are_those_of_the_runs_models_and_data() -> None:
    study = Study.from_config(with_experiments())
    read = experiment_files(study.experiments["detection"])
    slugs = {row["slug"] for batch in study.batches for row in batch.rows if set(batch.tables) & {"first", "steps"}}
    assert {name.split("/")[3] for name in read if name.startswith("attacks/")} == slugs
    assert {"models/vgg/weights.safetensors", "data/digits/card.json"} <= set(read)
    assert experiment_files(study.experiments["circles"]) == []
    softmax = experiment_files(study.experiments["softmax"])
    assert {name.split("/")[1] for name in softmax if name.startswith("models/")} == {"vgg", "other"}
    shown = table_files(study.tables["matrix"])
    assert shown == ["experiments/detection/records.parquet", "experiments/detection/run.json"]
    followed = table_files(study.tables["losses_1"])
    assert sum(name.endswith("trace.parquet") for name in followed) == 2
    drawn = chart_files(study.figures["losses_1"])
    assert sum(name.endswith("adversarials.safetensors") for name in drawn) == 2
    assert [table_folder(study.tables[name]) for name in ("first", "losses_1")] == ["attacks/vgg/other_class", ""]


def test_the_graph_leads_from_runs_over_experiments_to_tables_and_charts() -> None:
    graph = rule_graph(Study.from_config(with_experiments()))
    names = [line.split('"')[1] for line in graph.splitlines() if "label=" in line]
    edges = {("attack_first", "experiment"), ("attack_steps", "experiment"), ("train", "experiment")}
    edges |= {("experiment", "table"), ("experiment", "chart"), ("attack_steps", "chart"), ("chart", "report")}
    assert all(f"{names.index(tail)} -> {names.index(head)};" in graph for tail, head in edges)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"softmax": {"kind": "softmax", "models": ["vgg", "other"], "multi_class": {"smaller_multiplier": 1}}},
            "experiments.softmax.multi_class.smaller_multiplier: must be at most the multiplier 0.1, not 1",
        ),
        ({"softmax": {"kind": "softmax", "models": ["vgg", "vg"]}}, "experiments.softmax.models[1]: there is no model"),
        (
            {"softmax": {"kind": "softmax", "models": ["vgg", "labels"]}},
            "labels has the labels of scenes, vgg those of",
        ),
        ({"softmax": {"kind": "softmax", "models": ["vgg", "ecoc"]}}, "is that of a one_hot model, ecoc is a codebook"),
        ({"detection": {"kind": "detection", "learn": "stebs", "detectors": DETECTORS}}, "did you mean 'steps'?"),
        (
            {"detection": {"kind": "detection", "learn": "steps", "detectors": DETECTORS, "single": ["B"]}},
            "experiments.detection.single[0]: there is no detector 'B'",
        ),
        (
            {"detection": {"kind": "detection", "learn": "steps", "detectors": [DETECTORS[1], DETECTORS[1]]}},
            "detectors[1].name: 'A' is there twice",
        ),
        (
            {"detection": {"kind": "detection", "learn": "steps", "tested": ["third"], "detectors": DETECTORS}},
            "tested[0]: there is no table of attacks on vgg 'third'",
        ),
        (
            {"detection": {"kind": "detection", "learn": "steps", "detectors": [{**DETECTORS[0], "start": "ecoc"}]}},
            "detectors[0].start: ecoc has another network than the detector VGG-16",
        ),
        (
            {"detection": {"kind": "detection", "learn": "steps", "detectors": DETECTORS, "test_share": 0.95}},
            "leave no images to train with",
        ),
        (
            {"detection": {"kind": "detection", "learn": "steps", "detectors": DETECTORS, "validation_share": 0.01}},
            "leave 0 for the validation part of a detector, which needs 4",
        ),
        (
            {"detection": {"kind": "detection", "learn": "steps", "tested": ["steps"], "detectors": DETECTORS}},
            "steps attacks 40 images, which no detector may have learnt from, and the test part holds 20",
        ),
        ({"detection": {"kind": "detektion"}}, "unknown kind 'detektion'; did you mean 'detection'?"),
        ({"circles": {"kind": "circles", "hiden": 3}}, "experiments.circles.hiden: unknown key; did you mean 'hidden'"),
    ],
)
def test_wrong_experiments_are_told_what_is_wrong(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(StudyError) as error:
        Study.from_config(with_experiments(**changes))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"kind": "losses", "title": "x", "table": "first"}, "follows no gradient of a loss; allowed: gradient"),
        ({"kind": "losses", "title": "x", "table": "third"}, "losses are compared on classes"),
        ({"kind": "losses_claims", "title": "x", "table": "steps", "experiment": "softmax"}, "of the kind detection"),
        ({"kind": "losses_claims", "title": "x", "table": "steps", "transfer": "no"}, "there is no transfer 'no'"),
        (
            {"kind": "losses_claims", "title": "x", "table": "steps", "transfer": "others"},
            "transfer: others does not ask about the images of steps",
        ),
        ({"kind": "detection_pooled", "title": "x", "experiment": "circles"}, "of the kind detection 'circles'"),
    ],
)
def test_tables_show_what_is_there_and_fits(entry: dict[str, Any], expected: str) -> None:
    config = with_experiments()
    config["tables"]["wrong"] = entry
    with pytest.raises(StudyError) as error:
        Study.from_config(config)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"kind": "losses", "title": "x", "table": "steps", "show": "setting"}, "'setting' is missing"),
        ({"kind": "circles", "title": "x", "experiment": "softmax"}, "of the kind circles 'softmax'"),
        ({"kind": "softmax_curves", "title": "x", "experiment": "softmax"}, "'which' is missing"),
        (
            {
                "kind": "softmax_curves",
                "title": "x",
                "experiment": "softmax",
                "which": "both",
                "pairs": [["vgg", "ecoc"]],
            },
            "pairs[0]: there is no model of the experiment 'ecoc'",
        ),
        (
            {
                "kind": "softmax_curves",
                "title": "x",
                "experiment": "softmax",
                "which": "both",
                "pairs": [["vgg", "vgg"]],
            },
            "vgg cannot transfer to itself",
        ),
    ],
)
def test_figures_show_what_is_there_and_fits(entry: dict[str, Any], expected: str) -> None:
    config = with_experiments()
    config["figures"]["wrong"] = entry
    with pytest.raises(StudyError) as error:
        Study.from_config(config)
    assert expected in str(error.value)


def test_pictures_of_one_class_take_no_label_vectors_and_no_hierarchy() -> None:
    config = small_study()
    config["datasets"]["scenes"] = {"source": "scenes", "single_label": True, "hierarchy": True}
    with pytest.raises(StudyError, match=r"datasets\.scenes\.hierarchy: does not go with single_label"):
        Study.from_config(config)
    config["datasets"]["scenes"] = {"source": "scenes", "single_label": True}
    with pytest.raises(StudyError, match="'multi_label' does not fit"):
        Study.from_config(config)


def test_gradient_steps_on_different_losses_are_different_attacks_to_transfer() -> None:
    config = with_experiments()
    rows = [{"attack": "gradient", "label": loss, "loss": loss} for loss in ("cross_entropy", "logit")]
    more = [{"attack": "gradient", "label": "CE, long", "max_iterations": 500}, {"attack": "ifgs"}]
    config["tables"]["steps"] = {**STEPS, "rows": rows + more}
    config["transfers"] = {"digits": {"models": ["vgg", "ecoc"], "tables": ["steps"]}}
    (table,) = Study.from_config(config).transfers["digits"]["tables"]
    counts = {entry["attack"]: len(entry["slugs"]) for entry in table["attacks"]}
    assert counts == {"gradient_cross_entropy": 2, "gradient_logit": 1, "ifgs": 1}
