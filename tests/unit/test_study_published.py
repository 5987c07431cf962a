"""The studies of the published scale: what the papers say of data, networks, training, rows and images stands there."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from wolfe.data.hub_parts import images_of
from wolfe.study import Study, load_study
from wolfe.study.document import PUBLISHED_FOLDER, ROOT
from wolfe.study.rows import parameters_of
from wolfe.study.sources import classes_of, image_shape, is_multi_label

CONFIG = ROOT / "config"


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(CONFIG / "paper.yaml")


@pytest.fixture(scope="module")
def real() -> Study:
    return load_study(CONFIG / "real.yaml")


@pytest.fixture(scope="module")
def narrow() -> Study:
    return load_study(CONFIG / "real.yaml", CONFIG / "real_narrow.yaml")


def published_lines(file: str) -> list[dict[str, str]]:
    with (PUBLISHED_FOLDER / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def jma_tables(study: Study) -> dict[str, dict[str, Any]]:
    return {
        name: table for name, table in study.tables.items() if name.startswith("jma_") and table["kind"] == "attacks"
    }


def test_the_paper_study_holds_every_published_table_and_row_uncut(paper: Study) -> None:
    tables, index = jma_tables(paper), published_lines("jma_tables_index.csv")
    assert [table["published"] for table in tables.values()] == [line["file"] for line in index]
    for name, table in tables.items():
        lines = published_lines(table["published"])
        named = [row["published"] for row in table["rows"] if row["published"]]
        assert named == [{"attack": line["attack"], "params": line["params"]} for line in lines], name
        assert (table["images"], table["time_limit"]) == (200, 3600)
        assert not any(row["cut"] or row["images"] for row in table["rows"])
        assert "jma_refined" in {row["attack"] for row in table["rows"]}


def test_both_scales_ask_the_same_of_the_published_rows(paper: Study) -> None:
    embedded = load_study(CONFIG / "embedded.yaml")
    for name, table in jma_tables(paper).items():
        small = {row["label"]: row for row in embedded.tables[name]["rows"] if row["published"]}
        large = {row["label"]: row for row in table["rows"] if row["published"]}
        assert {label: row["asked"] for label, row in small.items()} == {
            label: row["parameters"] for label, row in large.items()
        }
        assert {key: value for key, value in embedded.tables[name]["rule"].items() if key != "images"} == {
            key: value for key, value in table["rule"].items() if key != "images"
        }


@pytest.mark.parametrize(
    ("model", "collection", "classes", "shape", "network", "loss", "rate", "batch"),
    [
        ("gtsrb_vgg16", "gtsrb", 32, (3, 64), "vgg16", "cross_entropy", None, None),
        ("imagenet2k_vit", "imagenet21k", 2000, (3, 224), "vit_base_patch16_224", "cross_entropy", None, None),
        ("gtsrb_ecoc32", "gtsrb", 32, (3, 64), "vgg16_ensemble", "hinge", None, None),
        ("cifar10_ecoc", "cifar10", 10, (3, 32), "vgg16_ensemble", "hinge", None, None),
        ("mnist_ecoc", "mnist", 10, (1, 32), "vgg16_ensemble", "hinge", None, None),
        ("voc_inception", "voc2012", 20, (3, 299), "inception_v3", "hinge", 1e-4, 64),
        ("voc_resnet50", "voc2012", 20, (3, 224), "resnet50", "binary_cross_entropy", 1e-3, 32),
        ("voc_vit", "voc2012", 20, (3, 224), "vit_base_patch16_224", "binary_cross_entropy", 1e-3, 32),
        ("voc_clip", "voc2012", 20, (3, 224), "frozen_features", "binary_cross_entropy", 1e-3, 32),
        ("coco_swin", "coco", 80, (3, 224), "swin_base", "asymmetric", 1e-3, 32),
        ("coco_clip", "coco", 80, (3, 224), "frozen_features", "asymmetric", 1e-3, 32),
        ("nus_wide_clip", "nus_wide", 81, (3, 224), "frozen_features", "asymmetric", 1e-3, 32),
    ],
)
def test_the_networks_are_the_papers(
    paper: Study,
    model: str,
    collection: str,
    classes: int,
    shape: tuple[int, int],
    network: str,
    loss: str,
    rate: float | None,
    batch: int | None,
) -> None:
    entry = paper.models[model]
    dataset, training = paper.datasets[entry["dataset"]], entry["training"]
    assert (dataset["collection"], classes_of(dataset), image_shape(dataset)) == (collection, classes, shape)
    assert is_multi_label(dataset) == (entry["encoding"]["kind"] == "multi_label")
    assert entry["network"].get("architecture", entry["network"]["name"]).startswith(network)
    assert entry["loss"] == loss
    if rate is not None:
        assert (training["learning_rate"], training["batch_size"], training["optimizer"]) == (rate, batch, "adam")
        assert training["patience"] < training["epochs"], "training stops early"


def test_the_published_networks_start_from_published_weights(paper: Study) -> None:
    for name, entry in paper.models.items():
        network = entry["network"]
        said = {**network, **network.get("backbone", {})}
        grey = image_shape(paper.datasets[entry["dataset"]])[0] == 1
        assert bool(said.get("weights") or said.get("pretrained")) != grey, name


def test_the_splits_are_the_papers(paper: Study) -> None:
    sizes = {
        name: tuple(images_of(entry, split) for split in ("train", "validation", "test"))
        for name, entry in paper.datasets.items()
        if name in ("voc", "nus_wide", "coco")
    }
    assert sizes["nus_wide"] == (129_431, 32_358, 107_759)
    assert sum(sizes["voc"]) == 11_530
    assert [round(10 * size / 11_530, 2) for size in sizes["voc"]] == [6, 2, 2]
    assert sum(sizes["coco"][:2]) == 117_266


def test_jobs_of_the_published_scale_ask_for_what_they_need(paper: Study) -> None:
    asked = paper.limits["resources"]
    assert paper.limits["device"] == "cuda"
    for stage in ("train", "attack", "experiment"):
        assert asked[stage]["mem_mb"] > 10 * 1024, "an ensemble's weights alone are 5 GB"
        assert asked[stage]["runtime"] >= 1440
    assert asked["report"] == {"mem_mb": 2500, "runtime": 15}, "not said in the study"


def test_the_real_study_keeps_to_its_budget(real: Study, narrow: Study) -> None:
    for study in (real, narrow):
        assert set(jma_tables(study)) == {"jma_01", "jma_03", "jma_04", "jma_05"}
        for table in jma_tables(study).values():
            assert table["images"] == 200
            assert "stand" in table["stands_in"]
            for row in table["rows"]:
                if row["attack"] in ("jma", "jma_refined"):
                    assert row["images"] is None
                    assert not row["cut"]
                else:
                    assert row["images"] <= 20
                    steps = row["parameters"].get("search_steps", 1)
                    assert row["attack"] == "mla_lp" or steps * row["parameters"]["max_iterations"] <= 1000


def test_the_real_study_has_the_published_rows(real: Study) -> None:
    for name, table in jma_tables(real).items():
        lines = published_lines(table["published"])
        named = [row["published"] for row in table["rows"] if row["published"]]
        assert named == [{"attack": line["attack"], "params": line["params"]} for line in lines], name


def test_the_narrow_study_differs_in_width_and_training_alone(real: Study, narrow: Study) -> None:
    assert narrow.name != real.name, "results are never mixed"
    for name, entry in narrow.models.items():
        assert entry["network"] == {**real.models[name]["network"], "width": 0.125, "dropout": 0.1}
        assert {key: value for key, value in entry.items() if key not in ("network", "training")} == {
            key: value for key, value in real.models[name].items() if key not in ("network", "training")
        }
    for name, table in jma_tables(narrow).items():
        assert "1/8 width" in table["stands_in"]
        wide = jma_tables(real)[name]
        assert [row["asked"] for row in table["rows"]] == [row["asked"] for row in wide["rows"]]


def test_published_rows_ask_what_their_names_say(paper: Study) -> None:
    row = {"attack": "jma", "step_size": 1, "max_iterations": 200, "images": 5}
    assert parameters_of(row) == {"step_size": 1.0, "max_iterations": 200}, "images are no parameter"
