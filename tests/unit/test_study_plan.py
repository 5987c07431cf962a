"""How a study is resolved: budgets, names of rows, jobs, and the graph."""

from __future__ import annotations

import csv
import json
import re

import yaml

from wolfe.study import Study, load_study, rule_graph
from wolfe.study.document import PUBLISHED_FOLDER, ROOT, plain
from wolfe.study.rows import budgets_of, cut, slug

from .test_study import small_study

EMBEDDED = ROOT / "config" / "embedded.yaml"
RIVALS = {"attacks": ["carlini_wagner", "lots"], "iteration_scale": 0.0167, "minimum_iterations": 20}
SAFE = re.compile(r"[A-Za-z0-9_.-]+")


def test_a_budget_cuts_iterations_and_search_steps() -> None:
    budget = {**RIVALS, "maximum_search_steps": 5}
    asked = {"initial_constant": 0.1, "search_steps": 10, "max_iterations": 5000}
    assert cut("carlini_wagner", asked, [budget]) == {**asked, "search_steps": 5, "max_iterations": 84}


def test_a_budget_never_goes_below_its_minimum_nor_above_what_was_asked() -> None:
    assert cut("lots", {"max_iterations": 100}, [RIVALS]) == {"max_iterations": 20}
    assert cut("lots", {"max_iterations": 7}, [RIVALS]) == {"max_iterations": 7}


def test_a_budget_cuts_defaults_that_a_row_does_not_spell_out() -> None:
    assert cut("lots", {}, [RIVALS]) == {"max_iterations": 33}


def test_attacks_without_a_budget_keep_what_they_ask() -> None:
    asked = {"step_size": 0.1, "max_iterations": 500}
    assert cut("jma", asked, [RIVALS]) == asked


def test_a_table_overrides_the_study_attack_by_attack() -> None:
    own = [{"attacks": ["lots"], "iteration_scale": 0.5}]
    budgets = budgets_of([RIVALS], own, ["lots", "carlini_wagner", "jma"])
    assert budgets == [own[0], {**RIVALS, "attacks": ["carlini_wagner"]}]
    assert budgets_of([RIVALS], [], ["jma"]) == []


def test_slugs_are_readable_safe_and_follow_the_work() -> None:
    assert slug("jma", {"step_size": 0.05, "max_iterations": 200}) == "jma-step_size_0.05-max_iterations_200"
    assert slug("jma", {"max_iterations": 200, "step_size": 1.0}) == "jma-step_size_1-max_iterations_200"
    assert slug("lots", {"max_iterations": 2000}) == slug("lots", {}) == "lots"
    assert slug("lots", {"samples": None, "round": False}) == "lots-round_false"


def test_long_slugs_stay_short_and_different() -> None:
    many = {"initial_constant": 0.123456789, "search_steps": 7, "max_iterations": 12345, "learning_rate": 0.0123}
    first = slug("ml_carlini_wagner", {**many, "confidence": 0.5, "start_scale": 0.9})
    second = slug("ml_carlini_wagner", {**many, "confidence": 0.5, "start_scale": 0.91})
    assert first != second
    assert len(first) <= 120


def test_rows_know_what_was_asked_and_whether_it_was_cut() -> None:
    study = Study.from_config(small_study())
    paper, ours = study.tables["first"]["rows"]
    assert (paper["cut"], paper["origin"], paper["label"]) == (False, "paper", "JMA (0.05, 200)")
    assert (ours["cut"], ours["origin"], ours["label"]) == (False, "ours", "C&W (ours)")
    lots = study.tables["second"]["rows"][0]
    assert (lots["asked"], lots["parameters"], lots["cut"]) == ({}, {"max_iterations": 200}, True)


def test_tables_that_share_a_row_share_its_job_and_nothing_is_attacked_twice() -> None:
    config = small_study()
    second = config["tables"]["second"]
    shared, own = second["rows"]
    config["tables"]["fourth"] = {**second, "rows": [shared, {"attack": "lots", "grey_levels": 2, "label": "LOTS 2"}]}
    study = Study.from_config(config)
    jobs = {batch.name: [row["attack"] for row in batch.rows] for batch in study.batches}
    assert jobs["second_and_fourth"] == ["lots"]
    assert jobs["second"] == [own["attack"]]
    assert jobs["fourth"] == ["lots"]
    works = [(batch.model, batch.targets, row["slug"]) for batch in study.batches for row in batch.rows]
    assert len(works) == len(set(works))


def test_rows_that_a_budget_makes_equal_are_one_piece_of_work() -> None:
    config = small_study()
    config["limits"]["budgets"][0]["minimum_iterations"] = 20
    config["tables"]["second"]["rows"] = [
        {"attack": "carlini_wagner", "max_iterations": steps, "label": str(steps)} for steps in (100, 200)
    ]
    study = Study.from_config(config)
    assert len({row["slug"] for row in study.tables["second"]["rows"]}) == 1
    assert [len(batch.rows) for batch in study.batches if batch.name == "second"] == [1]


def test_target_rules_that_differ_have_different_names() -> None:
    config = small_study()
    for name, change in {
        "more": {"images": 9},
        "wrong_too": {"targets": {"rule": "flip_bits", "bits": 3, "only_correct": False}},
        "bits": {"targets": {"rule": "flip_bits", "bits": 4}},
    }.items():
        config["tables"][name] = {**config["tables"]["third"], **change}
    study = Study.from_config(config)
    names = [study.tables[name]["targets"] for name in ("third", "more", "wrong_too", "bits")]
    assert names == ["flip_bits_3", "flip_bits_3_9_images", "flip_bits_3_any", "flip_bits_4"]
    assert study.targets["labels", "flip_bits_3_9_images"]["images"] == 9


def attack_tables(study: Study) -> dict[str, dict]:
    return {name: table for name, table in study.tables.items() if table["kind"] == "attacks"}


def published_lines(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((PUBLISHED_FOLDER / name).read_text(encoding="utf-8").splitlines()))


def jma_tables() -> dict[str, dict]:
    return {name: table for name, table in attack_tables(load_study(EMBEDDED)).items() if name.startswith("jma_")}


def test_the_embedded_study_holds_every_published_table_and_row() -> None:
    tables = jma_tables()
    index = published_lines("jma_tables_index.csv")
    assert [table["published"] for table in tables.values()] == [line["file"] for line in index]
    for name, table in tables.items():
        lines = published_lines(table["published"])
        named = [row["published"] for row in table["rows"] if row["published"]]
        assert named == [{"attack": line["attack"], "params": line["params"]} for line in lines], name
        assert table["images"] == (30 if name in ("jma_01", "jma_04", "jma_06", "jma_08") else 12)
        assert table["time_limit"] == 3600
        assert table["stands_in"]


def test_the_embedded_study_gives_each_rival_a_row_of_ours_and_asks_what_was_published() -> None:
    for table in jma_tables().values():
        rivals = {row["attack"] for row in table["rows"]} - {"jma"}
        assert {row["attack"] for row in table["rows"] if row["origin"] == "ours"} >= rivals
        for row in (row for row in table["rows"] if row["published"]):
            numbers = [float(text) for text in re.findall(r"[\d.e-]+", row["published"]["params"])]
            assert set(numbers) <= set(row["asked"].values()), row["label"]


def test_the_embedded_study_has_a_network_of_each_family() -> None:
    study = load_study(EMBEDDED)
    found = {model["network"].get("architecture", model["network"]["name"]) for model in study.models.values()}
    for family in ("vgg16", "vgg16_ensemble", "inception_v3", "resnet", "vit", "swin", "frozen_features"):
        assert any(name.startswith(family) for name in found), family
    asked = {model["name"] for transfer in study.transfers.values() for model in transfer["models"]}
    assert {table["model"] for table in attack_tables(study).values()} | asked == set(study.models)


def test_every_slug_is_a_safe_file_name() -> None:
    for table in attack_tables(load_study(EMBEDDED)).values():
        rows = table["rows"]
        assert all(SAFE.fullmatch(row["slug"]) for row in rows)
        distinct = {json.dumps([row["attack"], row["parameters"]], sort_keys=True) for row in rows}
        assert len({row["slug"] for row in rows}) == len(distinct)


def test_a_figure_chooses_among_all_rows_unless_some_are_named() -> None:
    config = plain(yaml.safe_load(EMBEDDED.read_text()))
    label = "JMA (0.1, 200)"
    config["figures"] = {"free": {"title": "Free", "table": "jma_04"}, "named": {"title": "Named", "table": "jma_04"}}
    config["figures"]["named"]["rows"] = [label]
    figures = Study.from_config(config).figures
    (named,), (free,) = figures["named"]["parts"], figures["free"]["parts"]
    rows = named["table"]["rows"]
    assert free["rows"] is None
    assert named["rows"] == [row["slug"] for row in rows if row["label"] == label]


def test_what_the_report_is_told_is_json_and_names_the_tables_of_figures() -> None:
    told = json.loads(json.dumps(load_study(EMBEDDED).report_spec()))
    by_name = {figure["name"]: figure for figure in told["figures"]}
    assert by_name["jma_01"]["table"] == "jma_06"
    assert [part["table"] for part in by_name["jma_02"]["parts"]] == ["jma_04", "jma_03", "jma_05"]


def test_what_one_job_is_told_fits_on_a_command_line() -> None:
    study = load_study(EMBEDDED)
    for told in [*study.tables.values(), *study.figures.values(), *(batch.rows for batch in study.batches)]:
        assert len(json.dumps(told)) < 100_000


def test_the_graph_leads_from_the_data_to_the_report() -> None:
    graph = rule_graph(Study.from_config(small_study()))
    labels = dict(re.findall(r'(\d+) \[label="(\w+)"\]', graph))
    edges = {(labels[tail], labels[head]) for tail, head in re.findall(r"(\d+) -> (\d+)", graph)}
    assert {("dataset", "train"), ("attack_first", "table"), ("table", "report"), ("attack_first", "figure")} <= edges
    assert ("attack_second", "figure") not in edges
