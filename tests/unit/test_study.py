"""What a wrong study is told: one line that names the key and what is allowed."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wolfe import Codebook, MultiLabel, OneHot, hadamard
from wolfe.attacks import ATTACKS
from wolfe.data import SOURCES
from wolfe.study import Study, StudyError, attack_names, attack_parameters, load_study, schema
from wolfe.study.document import ROOT, plain
from wolfe.study.references import SERVES
from wolfe.study.sources import check_source, classes_of, image_shape, images_to_attack, is_multi_label

EMBEDDED = ROOT / "config" / "embedded.yaml"
TINY = ROOT / "tests" / "pipeline" / "tiny.yaml"

Keys = tuple[Any, ...]


def small_study() -> dict[str, Any]:
    """A valid study of four models and three tables."""
    return {
        "study": "small",
        "seed": 1,
        "limits": {"images": 4, "budgets": [{"attacks": ["carlini_wagner", "lots"], "iteration_scale": 0.1}]},
        "datasets": {"digits": {"source": "digits", "size": 32}, "scenes": {"source": "scenes"}},
        "models": {
            "vgg": {
                "dataset": "digits",
                "network": {"name": "vgg16", "width": 0.1},
                "encoding": {"kind": "one_hot"},
                "loss": "cross_entropy",
                "training": {"epochs": 1},
            },
            "ecoc": {
                "dataset": "digits",
                "bottom": "vgg",
                "network": {"name": "vgg16_ensemble", "width": 0.1},
                "encoding": {"kind": "codebook", "code": "hadamard", "length": 16},
                "loss": "hinge",
                "training": {"epochs": 1},
            },
            "labels": {
                "dataset": "scenes",
                "network": {"name": "timm", "architecture": "resnet10t"},
                "encoding": {"kind": "multi_label"},
                "loss": "binary_cross_entropy",
                "training": {"epochs": 1, "augment": {"rotate": 5}},
            },
            "head": {
                "dataset": "scenes",
                "bottom": "labels",
                "network": {"name": "frozen_features", "hidden": 16},
                "encoding": {"kind": "multi_label"},
                "loss": "binary_cross_entropy",
                "training": {"epochs": 1},
            },
        },
        "tables": {
            "first": {
                "title": "One-hot",
                "model": "vgg",
                "targets": {"rule": "other_class"},
                "published": "jma_table_01.csv",
                "rows": [
                    {
                        "attack": "jma",
                        "step_size": 0.05,
                        "max_iterations": 200,
                        "published": {"attack": "JMA", "params": "(0.05, 200)"},
                    },
                    {"attack": "carlini_wagner", "origin": "ours", "max_iterations": 50},
                ],
            },
            "second": {
                "title": "Codes",
                "model": "ecoc",
                "targets": {"rule": "other_class"},
                "rows": [{"attack": "lots"}, {"attack": "ecoc_attack", "learning_rate": 0.1}],
            },
            "third": {
                "title": "Labels",
                "model": "labels",
                "targets": {"rule": "flip_bits", "bits": 3},
                "rows": [{"attack": "jma", "step_size": 1, "max_iterations": 5}],
            },
        },
        "figures": {"first": {"title": "Examples", "table": "first", "rows": ["JMA (0.05, 200)"]}},
    }


def changed(keys: Keys, value: Any) -> dict[str, Any]:
    """The small study with one value changed; `...` removes the key."""
    study: Any = copy.deepcopy(small_study())
    place = study
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return study


def message_of(study: Any) -> str:
    with pytest.raises(StudyError) as raised:
        Study.from_config(study)
    return str(raised.value)


@pytest.mark.parametrize("file", [EMBEDDED, TINY], ids=lambda file: file.stem)
def test_studies_of_the_project_are_valid(file: Path) -> None:
    study = load_study(file)
    assert study.name == file.stem
    assert study.batches


def test_the_small_study_is_valid() -> None:
    assert Study.from_config(small_study()).title == "small"


ROW = ("tables", "first", "rows", 0)
INCEPTION = {"name": "inception_v3", "width": 0.125, "blocks": [2, 1, 1]}
WRONG: list[tuple[Keys, Any, str]] = [
    ((*ROW, "attack"), "jmaa", "rows[0].attack: unknown attack 'jmaa'; did you mean 'jma'? allowed: jma, "),
    ((*ROW, "step_sise"), 1, "rows[0].step_sise: unknown key; did you mean 'step_size'? allowed: attack, "),
    ((*ROW, "factor"), 2.0, "tables.first.rows[0].factor: unknown key"),
    ((*ROW, "step_size"), -0.5, "tables.first.rows[0].step_size: must be > 0, not -0.5"),
    ((*ROW, "max_iterations"), 0, "tables.first.rows[0].max_iterations: must be >= 1, not 0"),
    ((*ROW, "max_iterations"), 1.5, "tables.first.rows[0].max_iterations: must be a whole number, not 1.5"),
    ((*ROW, "step_size"), "big", "tables.first.rows[0].step_size: must be a number, not 'big'"),
    ((*ROW, "clip"), "maybe", "tables.first.rows[0].clip: must be true or false, not 'maybe'"),
    ((*ROW, "search"), "papre", "tables.first.rows[0].search: unknown search 'papre'; did you mean 'paper'? "),
    ((*ROW, "step_size"), ..., "tables.first.rows[0]: 'step_size' is missing (required: step_size, max_iterations)"),
    ((*ROW, "published", "params"), "(0.05,200)", "no row 'JMA (0.05,200)'; did you mean 'JMA (0.05, 200)'?"),
    ((*ROW, "published"), ..., "tables.first.rows[0]: a row of origin 'paper' names its 'published' row"),
    ((*ROW, "origin"), "ours", "tables.first.rows[0]: a row of origin 'ours' has no published numbers"),
    (("tables", "first", "published"), "jma_table_99.csv", "first.published: there is no 'jma_table_99.csv'; did you"),
    (("tables", "first", "published"), "jma_models.csv", "'jma_models.csv' is no table of attacks: it has no col"),
    (("tables", "first", "published"), "../published/jma_table_01.csv", "tables.first.published: '../published/jma_ta"),
    (("tables", "first", "published"), ..., "tables.first.rows[0].published: the table names no published file"),
    (("tables", "first", "model"), "vg", "there is no model 'vg'; did you mean 'vgg'? allowed: vgg, ecoc, labels"),
    (("tables", "first", "targets", "rule"), "other", "unknown rule 'other'; did you mean 'other_class'?"),
    (("tables", "first", "targets", "rule"), "all_off", "'all_off' does not fit the one_hot model; allowed: other"),
    (("tables", "third", "targets", "rule"), "other_class", "unknown key"),
    (("tables", "third", "targets"), {"rule": "other_class"}, "allowed: training_labels, flip_bits, all_off"),
    (("tables", "third", "targets", "bits"), ..., "tables.third.targets: 'bits' is missing"),
    (("tables", "first", "rows"), [], "tables.first.rows: must not be empty"),
    (("tables", "first", "rows", 1), {"attack": "ecoc_attack", "origin": "ours"}, "ecoc_attack needs a codebook model"),
    (("tables", "third", "rows", 0), {"attack": "lots"}, "lots averages images of the target, which flip_bits lacks"),
    (("tables",), {}, "tables: must not be empty"),
    (("tables", "first", "rows"), "none", "tables.first.rows: must be a list, not 'none'"),
    (("tables", "a-b"), {}, "tables: 'a-b' is no name: use letters, digits and _ only"),
    (("models", "vgg", "dataset"), "digit", "models.vgg.dataset: there is no dataset 'digit'; did you mean 'digits'?"),
    (("models", "vgg", "bottom"), "vgg", "models.vgg.bottom: only a vgg16_ensemble or frozen_features has one"),
    (("models", "ecoc", "bottom"), ..., "models.ecoc: 'bottom' is missing"),
    (("models", "head", "bottom"), ..., "models.head: 'bottom' is missing: frozen_features uses the layers of a"),
    (("models", "head", "bottom"), "ecoc", "no vgg16 or inception_v3 or timm model 'ecoc'; allowed: vgg, labels"),
    (("models", "head", "bottom"), "vgg", "models.head.bottom: vgg takes images of another shape than scenes"),
    (("models", "labels", "network"), INCEPTION, "must be at least 75, or 29 with small_images, not 64"),
    (("models", "labels", "network"), {**INCEPTION, "width": 0.1}, "network.width: 0.1 is not a multiple of 0.0625"),
    (("models", "labels", "network"), {**INCEPTION, "blocks": [3, 5, 2]}, "network.blocks[1]: must be <= 4, not 5"),
    (("models", "ecoc", "bottom"), "labels", "models.ecoc.bottom: there is no vgg16 model 'labels'; allowed: vgg"),
    (("models", "ecoc", "loss"), "cross_entropy", "'cross_entropy' does not fit a codebook encoding; allowed: hinge"),
    (("models", "vgg", "dataset"), "scenes", "'one_hot' does not fit the scenes images; allowed: multi_label"),
    (("models", "vgg", "network", "widht"), 1, "models.vgg.network.widht: unknown key; did you mean 'width'?"),
    (("models", "vgg", "training", "epochs"), 0, "models.vgg.training.epochs: 0 takes published weights as they are"),
    (("models", "vgg", "training", "epochs"), -1, "models.vgg.training.epochs: must be >= 0, not -1"),
    (("models", "labels", "training", "augment", "flip"), 1, "models.labels.training.augment.flip: unknown key"),
    (("figures", "first", "table"), "firts", "figures.first.table: there is no table of attacks 'firts'; did you mean"),
    (("figures", "first", "rows"), ["JMA"], "figures.first.rows[0]: table first has no row 'JMA'"),
    (("tables", "first", "rows", 0, "step_size"), 0.06, "step_size: the published row it names has 0.05, not 0.06"),
    (("tabels",), {}, "tabels: unknown key; did you mean 'tables'?"),
    (("seed",), ..., "the study: 'seed' is missing (required: study, seed, datasets, models, tables)"),
    (("limits", "device"), "gpu", "limits.device: unknown device 'gpu'; did you mean 'cpu'? allowed: auto, cpu, cuda"),
    (("limits", "budgets", 0, "attacks"), ["lots", "lots"], "limits.budgets[0].attacks: 'lots' has a budget already"),
    (("limits", "budgets", 0, "iteration_scale"), 2, "limits.budgets[0].iteration_scale: must be <= 1, not 2"),
    ((*ROW, "step_size"), float("nan"), "tables.first.rows[0].step_size: must be a finite number, not nan"),
    (("limits", "images"), 500, "limits.images: must be at most 360 (the test images of tables.first), not 500"),
    (("tables", "third", "targets", "bits"), 21, "tables.third.targets.bits: must be at most 20 (the labels), not 21"),
    (("models", "ecoc", "encoding", "length"), 8, "must be a power of two and at least 10 (the classes), not 8"),
    (("datasets", "digits", "size"), 24, "the size of dataset digits must be a multiple of 32, not 24"),
    (("datasets", "digits", "train"), 5, "datasets.digits.train: unknown key; allowed: size, source"),
    (("datasets", "scenes", "colours"), 5, "datasets.scenes.colours: must be <= 4, not 5"),
    (("datasets", "scenes", "hierarchy"), 1, "datasets.scenes.hierarchy: must be true or false, not 1"),
    (("datasets", "digits"), {"source": "sequences", "size": 33}, "datasets.digits.size: 33 is not a multiple of 2"),
    (("datasets", "digits"), {"source": "sequences"}, "must be a power of two and at least 225 (the classes), not 16"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "value", "expected"), WRONG, ids=lambda item: str(item)[:60])
def test_a_wrong_study_is_told_what_is_wrong(keys: Keys, value: Any, expected: str) -> None:
    message = message_of(changed(keys, value))
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "hub"])
def test_what_is_known_of_the_sources_is_true(source: str) -> None:
    built = SOURCES[source](0, **({} if source == "digits" else {"train": 1, "validation": 1}))
    dataset = {"source": source}
    assert len(built.class_names) == classes_of(dataset)
    assert len(built.splits["test"].images) == images_to_attack(dataset)
    assert (built.task == "multi") == is_multi_label(dataset)


def test_published_sets_are_known_without_their_files() -> None:
    splits = {"train": "train[:100]", "validation": "train[100:200]", "test": "test[:50]"}
    dataset = {"source": "hub", "collection": "mnist", "size": 28, "splits": splits}
    assert (classes_of(dataset), images_to_attack(dataset), image_shape(dataset)) == (10, 50, (1, 28))
    assert not is_multi_label(dataset)
    check_source("datasets.a", dataset)
    with pytest.raises(StudyError, match=r"datasets\.a\.splits: hub: train .* and validation .* would share images"):
        check_source("datasets.a", {**dataset, "splits": {**splits, "validation": "train"}})


@pytest.mark.parametrize("colours", [2, 3, 4])
@pytest.mark.parametrize("hierarchy", [False, True])
def test_what_is_known_of_the_options_is_true(colours: int, hierarchy: bool) -> None:
    options = {"colours": colours, "hierarchy": hierarchy, "train": 1, "validation": 1, "test": 2}
    built = SOURCES["scenes"](0, **options)
    assert len(built.class_names) == classes_of({"source": "scenes", **options})
    assert images_to_attack({"source": "scenes", **options}) == len(built.splits["test"].images) == 2


def test_duplicate_rows_are_refused_even_if_one_spells_out_a_default() -> None:
    study = small_study()
    study["tables"]["second"]["rows"].append({"attack": "lots", "max_iterations": 2000, "label": "LOTS again"})
    assert message_of(study) == "tables.second.rows[2]: duplicate of rows[0] (same attack and parameters)"


def test_labels_must_differ() -> None:
    study = small_study()
    study["tables"]["second"]["rows"].append({"attack": "lots", "max_iterations": 7})
    assert "tables.second.rows[2].label: 'LOTS' is the label of rows[0] already" in message_of(study)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("2.5", 2.5), ("40", 40), ("true", True), ("-3", -3), ("a1", "a1"), ("1e", "1e"), ("cpu", "cpu")],
)
def test_text_that_means_a_value_becomes_it(text: str, value: object) -> None:
    assert plain({"some": [{"key": text}]}) == {"some": [{"key": value}]}
    assert plain({"label": text, "published": {"params": text}}) == {"label": text, "published": {"params": text}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("study: a\nseed: 1\nseed: 2\n", "line 3: the key 'seed' stands twice"),
        ("- a\n", "must hold a map"),
        ("study: [\n", "is not valid YAML"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, text: str | None, expected: str) -> None:
    file = tmp_path / "study.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StudyError) as raised:
        load_study(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert expected in str(raised.value)


def test_merge_keys_and_anchors_are_allowed(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("base: &base {a: 1}\nother: {<<: *base, b: 2}\n")
    with pytest.raises(StudyError, match=r"^base: unknown key"):
        load_study(file)


def test_schema_and_package_agree_on_the_attacks() -> None:
    assert attack_names() == list(ATTACKS) == schema()["$defs"]["attack_name"]["enum"]
    for name, attack in ATTACKS.items():
        fields = {field.name: field for field in dataclasses.fields(attack)}
        entries = attack_parameters(name)
        assert set(entries) == set(fields), name
        for key, entry in entries.items():
            if key not in schema()["$defs"]["attacks"][name].get("required", []):
                assert entry["default"] == fields[key].default, (name, key)


def test_schema_and_package_agree_on_the_rest() -> None:
    from wolfe.data import SOURCES
    from wolfe.experiments.targets import RULES
    from wolfe.models import NETWORKS
    from wolfe.models.learner import TrainingOptions
    from wolfe.models.losses import LOSSES
    from wolfe.study import model_checks

    parts = schema()["$defs"]
    assert parts["dataset"]["properties"]["source"]["enum"] == list(SOURCES)
    assert parts["targets"]["properties"]["rule"]["enum"] == list(RULES)
    assert parts["network"]["properties"]["name"]["enum"] == list(NETWORKS)
    assert set(parts["training"]["properties"]) == {field.name for field in dataclasses.fields(TrainingOptions)}
    assert set(parts["encoding"]["properties"]["kind"]["enum"]) == set(LOSSES)
    losses = {kind: tuple(names) for kind, names in LOSSES.items()}
    assert losses == model_checks.LOSSES
    assert set(parts["model"]["properties"]["loss"]["enum"]) == {name for names in losses.values() for name in names}


def test_a_study_knows_which_encodings_an_attack_serves() -> None:
    encodings = {"one_hot": OneHot(3), "codebook": Codebook(hadamard(4, 3)), "multi_label": MultiLabel(3)}
    for name in set(ATTACKS) - {"ecoc_attack"}:
        served = {kind for kind, encoding in encodings.items() if ATTACKS[name]().serves(encoding)}
        assert served == set(SERVES.get(name, encodings)), name


def test_reading_a_study_does_not_import_torch() -> None:
    code = "import sys, wolfe.study, wolfe.cli, wolfe.fingerprint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
