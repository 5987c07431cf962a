"""Tables that are made from the rows of others, sub-tables, and figures of several parts."""

from __future__ import annotations

from typing import Any

import pytest

from wolfe.study import Study, StudyError, rows_needed
from wolfe.study.derived import group_tables

from .test_study import small_study


def with_derived(**tables: Any) -> dict[str, Any]:
    config = small_study()
    config["tables"].update(tables)
    return config


def variants(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "variants", "title": "Variants", "rows": list(rows)}


SEVEN = {"table": "first", "of": "JMA (0.05, 200)", "change": {"search_steps": 7}, "difference": "seven bisections"}


def test_a_variant_is_its_row_with_some_parameters_changed_on_the_same_images() -> None:
    study = Study.from_config(with_derived(changed=variants(SEVEN)))
    (line,) = study.tables["changed"]["rows"]
    first = study.tables["first"]
    assert line["base"] == first["rows"][0]
    assert line["variant"]["parameters"] == {**line["base"]["parameters"], "search_steps": 7}
    assert (line["model"], line["targets"], line["images"]) == (first["model"], first["targets"], first["images"])
    (job,) = [batch for batch in study.batches if batch.tables == ("changed",)]
    assert [row["slug"] for row in job.rows] == [line["variant"]["slug"]]


def test_variants_of_cut_rows_are_cut_alike() -> None:
    lots = {"table": "second", "of": "LOTS", "change": {"round": False}, "difference": "no rounding"}
    study = Study.from_config(with_derived(changed=variants(lots)))
    (line,) = study.tables["changed"]["rows"]
    assert line["base"]["cut"]
    assert line["variant"]["parameters"]["max_iterations"] == line["base"]["parameters"]["max_iterations"]


def test_variants_on_several_models_are_several_jobs_with_names_of_their_own() -> None:
    lots = {"table": "second", "of": "LOTS", "change": {"round": False}, "difference": "no rounding"}
    study = Study.from_config(with_derived(changed=variants(SEVEN, lots)))
    jobs = [batch for batch in study.batches if batch.tables == ("changed",)]
    assert len(jobs) == len({batch.name for batch in jobs}) == len({batch.model for batch in jobs}) == 2


def test_analyses_hold_the_jma_rows_of_their_tables_and_ask_for_no_job_of_their_own() -> None:
    plain = Study.from_config(small_study())
    study = Study.from_config(with_derived(steps={"kind": "one_step", "title": "One step", "tables": ["first"]}))
    (part,) = study.tables["steps"]["parts"]
    assert [row["attack"] for row in part["rows"]] == ["jma"]
    assert study.batches == plain.batches
    needed = rows_needed(study.tables["steps"])
    assert [(model, row["slug"]) for model, _, row in needed] == [(part["model"], part["rows"][0]["slug"])]


def test_rows_with_jacobians_are_traced() -> None:
    rows = [row for batch in Study.from_config(small_study()).batches for row in batch.rows]
    kept = {row["attack"]: "jacobian" if row["attack"] == "jma" else None for row in rows}
    assert {row["attack"]: row["trace"] for row in rows} == kept


def test_sub_tables_are_grouped_by_their_number() -> None:
    assert group_tables(["t_10a", "t_10b", "t_9", "own_3", "own_3a", "extra", "t_11a"]) == {
        "t_10": ["t_10a", "t_10b"],
        "t_11": ["t_11a"],
    }


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (variants({**SEVEN, "table": "frist"}), "rows[0].table: there is no table of attacks 'frist'; did you mean"),
        (variants({**SEVEN, "of": "JMA (0.05)"}), "rows[0].of: table first has no row 'JMA (0.05)'; did you mean"),
        (variants({**SEVEN, "change": {"search_step": 7}}), "rows[0].change.search_step: unknown key; did you mean"),
        (variants({**SEVEN, "change": {"step_size": -1}}), "rows[0].change.step_size: must be > 0, not -1"),
        (variants({**SEVEN, "change": {"search_steps": 6}}), "rows[0].change: changes nothing of 'JMA (0.05, 200)'"),
        (variants(SEVEN, SEVEN), "rows[1]: duplicate of rows[0]"),
        ({"kind": "one_step", "title": "x", "tables": ["frist"]}, "tables[0]: there is no table of attacks 'frist'"),
        ({"kind": "one_step", "title": "x"}, "'tables' is missing"),
        ({"kind": "jacobian_rank", "title": "x", "tables": ["second"]}, "tables[0]: table second has no row of jma"),
        ({"kind": "one_stap", "title": "x", "tables": ["first"]}, "unknown kind 'one_stap'; did you mean 'one_step'?"),
    ],
)
def test_wrong_tables_are_told_what_is_wrong(table: dict[str, Any], expected: str) -> None:
    with pytest.raises(StudyError) as error:
        Study.from_config(with_derived(wrong=table))
    assert expected in str(error.value)
    assert "tables.wrong" in str(error.value)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ({"title": "x"}, "give either 'table' (with rows, image, images) or 'parts'"),
        ({"title": "x", "parts": [{"table": "frist"}]}, "parts[0].table: there is no table of attacks 'frist'"),
        ({"title": "x", "parts": [{"table": "first", "rows": ["JMB"]}]}, "parts[0].rows[0]: table first has no row"),
        ({"title": "x", "table": "first", "image": "test-00001", "images": 2}, "images: must be 1 where 'image'"),
        ({"title": "x", "table": "first", "images": 5}, "images: must be at most 4 (the images of first), not 5"),
        ({"title": "x", "kind": "geometry", "table": "first"}, "needs a multi_label model, not a one_hot one"),
    ],
)
def test_wrong_figures_are_told_what_is_wrong(figure: dict[str, Any], expected: str) -> None:
    config = small_study()
    config["figures"] = {"wrong": figure}
    with pytest.raises(StudyError) as error:
        Study.from_config(config)
    assert expected in str(error.value)
    assert "figures.wrong" in str(error.value)
