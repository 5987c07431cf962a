"""Rows that attack only some images, iterations bounded in all, folders named once, and what jobs ask a cluster for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wolfe.study import Study, StudyError
from wolfe.study.resources import growing
from wolfe.study.roots import fetches, with_roots
from wolfe.study.rows import cut, resolved_row, slug

from .test_study import small_study


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"search_steps": 5, "max_iterations": 100}, {"search_steps": 5, "max_iterations": 100}),
        ({"search_steps": 5, "max_iterations": 500}, {"search_steps": 5, "max_iterations": 200}),
        ({"search_steps": 10, "max_iterations": 2000}, {"search_steps": 10, "max_iterations": 100}),
        ({}, {"max_iterations": 111}),  # nine constants of 1000 iterations each are the defaults
    ],
)
def test_iterations_are_bounded_over_every_constant_tried(asked: dict[str, Any], expected: dict[str, Any]) -> None:
    budget = {"attacks": ["carlini_wagner"], "maximum_iterations": 1000}
    assert cut("carlini_wagner", asked, [budget]) == expected


def test_a_search_that_is_not_for_a_constant_does_not_repeat_the_iterations() -> None:
    asked = {"step_size": 0.1, "max_iterations": 500, "search_steps": 7}
    assert cut("jma", asked, [{"attacks": ["jma"], "maximum_iterations": 300}]) == {**asked, "max_iterations": 300}
    assert cut("lots", {}, [{"attacks": ["lots"], "maximum_iterations": 1000}]) == {"max_iterations": 1000}


def test_fewer_constants_leave_more_iterations_for_each() -> None:
    budget = {"attacks": ["carlini_wagner"], "maximum_iterations": 1000, "maximum_search_steps": 2}
    asked = {"search_steps": 10, "max_iterations": 2000}
    assert cut("carlini_wagner", asked, [budget]) == {"search_steps": 2, "max_iterations": 500}


def test_fewer_iterations_than_constants_leave_one_for_each_of_as_many() -> None:
    budget = {"attacks": ["carlini_wagner"], "maximum_iterations": 3}
    asked = {"search_steps": 10, "max_iterations": 50}
    assert cut("carlini_wagner", asked, [budget]) == {"search_steps": 3, "max_iterations": 1}


@given(
    steps=st.integers(1, 12), iterations=st.integers(1, 3000), most=st.integers(1, 2000), scale=st.floats(0.001, 1.0)
)
def test_no_row_makes_more_iterations_in_all_than_its_budget(
    steps: int, iterations: int, most: int, scale: float
) -> None:
    budget = {"attacks": ["carlini_wagner"], "maximum_iterations": most, "iteration_scale": scale}
    left = cut("carlini_wagner", {"search_steps": steps, "max_iterations": iterations}, [budget])
    assert 1 <= left["search_steps"] * left["max_iterations"] <= most
    assert left["search_steps"] <= steps
    assert left["max_iterations"] <= iterations


def test_rows_with_fewer_images_are_other_work_but_not_cut() -> None:
    row = {"attack": "lots", "max_iterations": 50}
    budgets = [{"attacks": ["lots"], "images": 20}]
    whole, some = resolved_row(row, [], 200), resolved_row(row, budgets, 200)
    assert (whole["images"], some["images"]) == (None, 20)
    assert some["slug"] == whole["slug"] + "-first_20"
    assert not some["cut"]
    assert resolved_row(row, budgets, 20) == resolved_row(row, [], 20), "all of a small table"
    assert resolved_row({**row, "origin": "ours"}, budgets, 200)["images"] is None, "ours are exempt"
    assert resolved_row({**row, "origin": "ours", "images": 7}, budgets, 200)["images"] == 7
    assert resolved_row({**row, "images": 30}, budgets, 200)["images"] == 20


def test_the_name_of_a_long_row_tells_its_images_too() -> None:
    many = {"initial_constant": 0.1234567, "search_steps": 7, "max_iterations": 12345, "learning_rate": 0.01234}
    many |= {"confidence": 0.123456789, "abort_early": False, "start_scale": 0.987654321}
    assert len({slug("carlini_wagner", many, images) for images in (None, 10, 20)}) == 3


def figure_of(part: dict[str, Any], images: int | None) -> dict[str, Any]:
    """The small study with one figure, of a table whose first row attacks some images."""
    config = small_study()
    rows = config["tables"]["first"]["rows"]
    rows[0] |= {} if images is None else {"images": images}
    config["figures"] = {"shown": {"title": "Shown", "table": "first", **part}}
    return config


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            {"images": 3},
            r"figures\.shown\.images: must be at most 2 \(the images that every row shown attacks\), not 3",
        ),
        ({"image": "test-00007"}, r"figures\.shown\.image: .* attack only their first images"),
    ],
)
def test_a_figure_shows_images_that_its_rows_have(part: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Study.from_config(figure_of(part, 2))
    Study.from_config(figure_of(part, None))
    others = Study.from_config(figure_of({}, None)).tables["first"]["rows"][1]["label"]
    Study.from_config(figure_of({**part, "rows": [others]}, 2))


def test_jobs_are_told_the_images_of_each_row() -> None:
    config = small_study()
    config["tables"]["first"]["rows"][0]["images"] = 2
    batches = Study.from_config(config).batches
    assert [row["images"] for batch in batches if batch.name == "first" for row in batch.rows] == [2, None]


@pytest.mark.parametrize("images", [0, -3, 2.5, "few"])
def test_impossible_numbers_of_images_are_refused(images: Any) -> None:
    config = small_study()
    config["tables"]["first"]["rows"][0]["images"] = images
    with pytest.raises(StudyError, match=r"tables\.first\.rows\[0\]\.images: must be"):
        Study.from_config(config)


def test_rows_that_are_followed_step_by_step_have_all_images() -> None:
    config = small_study()
    row = {"attack": "gradient", "loss": "logit", "images": 2, "origin": "ours"}
    config["tables"]["first"] = {**config["tables"]["first"], "rows": [row]}
    del config["figures"]
    config["tables"]["steps"] = {"kind": "losses", "title": "Steps", "table": "first"}
    with pytest.raises(StudyError, match=r"tables\.first\.rows: 'images' must not limit rows here .* steps"):
        Study.from_config(config)


def test_a_study_names_its_folders_once() -> None:
    study = {
        "study": "x",
        "data_root": "pictures",
        "weights_root": "weights",
        "datasets": {
            "a": {"source": "hub", "collection": "mnist"},
            "b": {"source": "hub", "collection": "gtsrb", "data_root": "elsewhere"},
            "c": {"source": "digits"},
        },
        "models": {
            "fresh": {"network": {"name": "vgg16"}},
            "published": {"network": {"name": "timm", "architecture": "x", "pretrained": True}},
            "own": {"network": {"name": "torchvision", "weights": "A", "weights_file": "here.pth"}},
            "head": {"network": {"name": "frozen_features", "backbone": {"name": "timm", "pretrained": True}}},
        },
    }
    said = with_roots(study)
    assert [entry.get("data_root") for entry in said["datasets"].values()] == ["pictures/mnist", "elsewhere", None]
    networks = {name: model["network"] for name, model in said["models"].items()}
    assert networks["fresh"] == {"name": "vgg16"}
    assert networks["published"]["weights_root"] == "weights"
    assert "weights_root" not in networks["own"]
    assert networks["head"]["backbone"]["weights_root"] == "weights"
    assert not {"data_root", "weights_root"} & said.keys()
    assert study["datasets"]["a"] == {"source": "hub", "collection": "mnist"}, "what was given is not changed"


def test_without_folders_a_study_stays_as_it_is() -> None:
    config = small_study()
    assert with_roots(config) == config
    assert with_roots({**config, "data_root": None, "weights_root": None}) == config


@pytest.mark.parametrize(
    ("dataset", "network", "expected"),
    [
        ({"source": "digits"}, {"name": "vgg16"}, False),
        ({"source": "hub", "collection": "mnist"}, {"name": "vgg16"}, True),
        ({"source": "hub", "collection": "mnist", "data_root": "here"}, {"name": "vgg16"}, False),
        ({"source": "digits"}, {"name": "timm", "pretrained": True}, True),
        ({"source": "digits"}, {"name": "timm", "pretrained": False}, False),
        ({"source": "digits"}, {"name": "torchvision", "weights": "A", "weights_file": "a.pth"}, False),
        ({"source": "digits"}, {"name": "frozen_features", "backbone": {"name": "timm", "pretrained": True}}, True),
    ],
)
def test_a_study_knows_whether_it_fetches_anything(
    dataset: dict[str, Any], network: dict[str, Any], expected: bool
) -> None:
    study = {"datasets": {"d": dataset}, "models": {"m": {"network": network}}}
    assert fetches(study) is expected
    assert fetches(with_roots({**study, "data_root": "data", "weights_root": "weights"})) is False


def test_jobs_ask_for_as_much_again_with_each_attempt() -> None:
    config = small_study()
    config["limits"]["resources"] = {"train": {"mem_mb": 700}, "attack": {"runtime": 3}}
    limits = Study.from_config(config).limits
    memory, minutes = growing(limits, "train", "mem_mb"), growing(limits, "train", "runtime")
    assert [memory(None, attempt) for attempt in (1, 2, 3)] == [700, 1400, 2100]
    assert minutes(None, 2) == 480, "what is not said is the schema's"
    assert growing(limits, "attack", "runtime")(None, attempt=4) == 12


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"trian": {}}, r"limits\.resources\.trian: unknown key; did you mean 'train'"),
        ({"train": {"mem_mb": 100}}, r"limits\.resources\.train\.mem_mb: must be >= 500, not 100"),
        ({"train": {"gpus": 2}}, r"limits\.resources\.train\.gpus: unknown key"),
    ],
)
def test_impossible_resources_are_refused(resources: dict[str, Any], message: str) -> None:
    config = small_study()
    config["limits"]["resources"] = resources
    with pytest.raises(StudyError, match=message):
        Study.from_config(config)
