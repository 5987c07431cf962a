"""Derived tables: JMA in one step, the rank of the Jacobian, variants; counts and findings by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.unit import report_study as study
from wolfe.report import jacobian_rank, one_step, variants
from wolfe.report.derived import derived_caption, read_derived
from wolfe.report.records import read_trace
from wolfe.report.tables import write_table


def part(table, rows, **more: Any):
    """A table of attacks as a derived one names it."""
    spec = {"table": table, "title": "A title", "model": "digits_vgg16", "dataset": "digits", "encoding": "one_hot"}
    rule = {"targets": "other_class", "rule": {"rule": "other_class"}, "images": 4}
    return spec | rule | {"rows": rows} | more


def jma(slug, step_size=0.1, **more: Any):
    """A JMA row."""
    return study.row(slug, "jma", f"JMA ({step_size}, 200)", parameters={"step_size": step_size}, **more)


def step_lines(firsts, iterations=10):
    """Records by the iteration at which the target was first reached; 0 for never, -1 for already there."""
    return [
        {
            "first_success": max(first, 0),
            "success": first != 0,
            "status": "already_there" if first < 0 else ("found" if first else "exhausted"),
            "iterations": 0 if first < 0 else iterations,
        }
        for first in firsts
    ]


@pytest.fixture
def steps(tmp_path):
    """A table of two step sizes and a multi-label one, with their records."""
    folder = tmp_path / "attacks" / "digits_vgg16" / "other_class"
    study.write_records(folder / "small", step_lines([1, 1, 3, 0, -1], iterations=12))
    study.write_records(folder / "large", step_lines([1, 1, 2, 4, -1], iterations=6))
    other = tmp_path / "attacks" / "scenes_resnet" / "other_class"
    study.write_records(other / "small", step_lines([0, 5, 7, 0]), multi_label=True)
    spec = {"name": "jma_one_step", "title": "JMA in one step", "kind": "one_step", "stands_in": ""}
    scenes = {"model": "scenes_resnet", "dataset": "scenes", "encoding": "multi_label"}
    spec["parts"] = [part("jma_01", [jma("small", 0.05), jma("large", 0.6)]), part("jma_06", [jma("small")], **scenes)]
    return spec, tmp_path


def test_share_of_the_first_iteration_leaves_out_images_already_there(steps):
    spec, folder = steps
    table = one_step.lines(spec, folder / "attacks")
    assert table["attacked"].tolist() == [4, 4, 4]
    assert table["first"].tolist() == [2, 2, 0]
    assert table["first_share"].tolist() == [0.5, 0.5, 0]
    assert table["first_share_of_successes"].tolist() == [pytest.approx(2 / 3), 0.5, 0]
    assert table["asr"].tolist() == [0.8, 1.0, 0.5]
    assert table["iterations_mean"].tolist() == [9, 4.8, 10]
    assert table["step_size"].tolist() == [0.05, 0.6, 0.1]
    # Wilson's interval of 2 of 4.
    assert table["first_95_low"][0] == pytest.approx(0.15, abs=5e-3)
    assert table["first_95_high"][0] == pytest.approx(0.85, abs=5e-3)


def test_one_step_says_what_the_step_size_does_and_does_not(steps):
    spec, folder = steps
    table = one_step.lines(spec, folder / "attacks")
    opening, unchanged, changed, by_encoding, extremes = one_step.findings(table)
    assert "(one row each, 8 images and targets) 2 of 8 (25 %) are done" in opening
    assert "in 1 of 1 tables with several step sizes the same number" in unchanged
    assert "by construction" in unchanged
    assert "n_it falls in 1 and rises in 0 of 1 tables, by a factor of 1.9 in the median" in changed
    assert "no difference that these images can show (p = 1.000)" in changed
    assert "the ASR rises in 1, falls in 0 and stays in 0" in changed
    assert "one-hot 2 of 4 (50 %) and multi-label 0 of 4 (0 %)" in by_encoding
    assert "most Table 1 (digits, digits_vgg16) with 0.50" in extremes
    assert "fewest Table 6 (scenes, scenes_resnet, 10.0 labels to change) with 0.00" in extremes


def test_one_step_compares_rows_of_equal_and_whole_budgets_only(steps):
    spec, folder = steps
    for more in ({"cut": True}, {"origin": "ours"}):
        spec["parts"][0]["rows"][1] = jma("large", 0.6) | more
        changed = one_step.findings(one_step.lines(spec, folder / "attacks"))[2]
        assert "so nothing to compare" in changed
    spec["parts"][0]["rows"][1] = jma("large", 0.6)
    spec["parts"][0]["rows"][1]["parameters"]["max_iterations"] = 500
    changed = one_step.findings(one_step.lines(spec, folder / "attacks"))[2]
    assert "so nothing to compare" in changed


def test_one_step_names_tables_where_the_share_does_change(steps):
    spec, folder = steps
    place = folder / "attacks" / "digits_vgg16" / "other_class" / "large"
    study.write_records(place, step_lines([1, 0, 2, 4, -1]))
    unchanged = one_step.findings(one_step.lines(spec, folder / "attacks"))[1]
    assert "in 0 of 1 tables" in unchanged
    assert "The exceptions, Table 1 (1 to 2 images)" in unchanged


def test_nothing_to_attack_has_no_share(tmp_path):
    study.write_records(tmp_path / "attacks" / "digits_vgg16" / "other_class" / "a", step_lines([-1, -1]))
    spec = {"name": "x", "title": "X", "kind": "one_step", "parts": [part("jma_01", [jma("a")])]}
    table = one_step.lines(spec, tmp_path / "attacks")
    assert table["first_share"].isna().all()
    assert "no image was to be attacked" in one_step.findings(table)[0]
    write_table(spec, tmp_path / "attacks", None, tmp_path / "x")
    assert "2 images were at their target already" in (tmp_path / "x.md").read_text()


@pytest.fixture
def ranks(tmp_path):
    """A row of three traced images, of which one loses rank at step 7, and a row that never does."""
    folder = tmp_path / "attacks" / "digits_vgg16" / "other_class"
    lines = [{"image_id": name, "success": name != "c", "bits_total": 4} for name in "abcd"]
    for slug in ("loses", "keeps"):
        study.write_records(folder / slug, lines)
    losing = {"a": [4] * 6 + [3, 2], "b": [4], "c": [4, 4]}
    ratios = {"a": [0.2] * 7 + [1e-9], "b": [0.1], "c": [0.3, 0.05]}
    study.write_trace(folder / "loses", losing, ratios)
    study.write_trace(folder / "keeps", {"a": [4], "b": [4, 4]})
    spec = {"name": "jma_rank", "title": "The rank", "kind": "jacobian_rank", "stands_in": ""}
    return spec | {"parts": [part("jma_01", [jma("loses", 0.05), jma("keeps", 0.2)])]}, tmp_path


def test_rank_is_counted_by_steps_and_images(ranks):
    spec, folder = ranks
    line = jacobian_rank.lines(spec, folder / "attacks").iloc[0]
    assert (line["outputs"], line["jacobians"], line["traced"]) == (4, 11, 3)
    assert (line["jacobians_step_1"], line["full_share_step_1"]) == (3, 1)
    assert (line["jacobians_early"], line["full_share_early"]) == (8, 1)
    assert (line["jacobians_later"], line["full_share_later"]) == (3, pytest.approx(1 / 3))
    assert (line["rank_lowest"], line["first_deficient_step"]) == (2, 7)
    assert (line["ratio_first_median"], line["ratio_first_least"]) == (0.2, 0.1)
    assert (line["ratio_last_median"], line["ratio_last_least"]) == (0.05, 1e-9)
    assert (line["deficient"], line["deficient_successes"]) == (1, 1)
    assert (line["always_full"], line["always_full_successes"]) == (2, 1)


def test_rank_findings_agree_with_the_paper_only_where_the_numbers_do(ranks):
    spec, folder = ranks
    table = jacobian_rank.lines(spec, folder / "attacks")
    says = jacobian_rank.findings(table)
    assert says[0].startswith("14 Jacobians in 2 rows")
    assert "at step 1 in 5 of 5 (100 %), over steps 1 to 5 in 11 of 11 (100 %) and later in 1 of 3 (33.3 %)" in says[1]
    assert says[1].endswith("sometimes not afterwards, as the paper says.")
    assert "lost in 1 of 2 rows: Table 1 (from step 7, lowest rank 2 of 4)" in says[2]
    assert "1 of 1 (100 %) of the images that lost rank reach the target and 1 of 2 (50.0 %)" in says[3]
    assert "falls in 1 and rises in 0 of 2 rows" in says[4]
    assert "no attack here went beyond step 5" in " ".join(jacobian_rank.findings(table.iloc[1:]))
    place = folder / "attacks" / "digits_vgg16" / "other_class" / "loses"
    study.write_trace(place, {"a": [4, 3]})
    early = jacobian_rank.findings(jacobian_rank.lines(spec, folder / "attacks"))
    assert "other than the paper says" in early[1]
    study.write_trace(place, {"a": [4] * 9})
    never = jacobian_rank.findings(jacobian_rank.lines(spec, folder / "attacks"))
    assert "no loss was met here" in never[1]
    assert len(never) == 3


def test_a_rank_that_is_never_full_is_the_networks_own(ranks):
    spec, folder = ranks
    place = folder / "attacks" / "digits_vgg16" / "other_class" / "loses"
    study.write_trace(place, {"a": [3] * 9, "b": [3, 2]})
    says = jacobian_rank.findings(jacobian_rank.lines(spec, folder / "attacks"))
    assert says[1].startswith("Never full: in 1 rows no Jacobian has full rank, not even at step 1: Table 1 (at most 3")
    assert "at step 1 in 2 of 2 (100 %)" in says[2]
    assert not any("other than the paper says" in text for text in says)


def test_a_row_without_any_jacobian(ranks):
    spec, folder = ranks
    for slug in ("loses", "keeps"):
        study.write_trace(folder / "attacks" / "digits_vgg16" / "other_class" / slug, {})
    table = jacobian_rank.lines(spec, folder / "attacks")
    assert table["jacobians"].tolist() == [0, 0]
    assert "in none (there were none)" in jacobian_rank.findings(table)[1]
    write_table(spec, folder / "attacks", None, folder / "rank")
    assert "—" in (folder / "rank.md").read_text()


def test_damaged_traces_are_named(ranks):
    folder = ranks[1] / "attacks" / "digits_vgg16" / "other_class" / "loses"
    assert read_trace(folder)["step"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 2]
    twice = pd.DataFrame({"image_id": ["a", "a"], "step": [1, 1], "name": ["r", "r"], "value": [1.0, 2.0]})
    for frame in (twice, twice.drop(columns="value")):
        frame.to_parquet(folder / "trace.parquet", index=False)
        study.write_run(folder)
        with pytest.raises(ValueError, match=r"loses/trace.parquet is no readable trace"):
            read_trace(folder)
    (folder / "trace.parquet").write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"loses/trace.parquet is damaged"):
        read_trace(folder)
    study.write_run(folder, outputs={})
    with pytest.raises(ValueError, match=r"run.json holds no checksum of trace.parquet"):
        read_trace(folder)


def l2_lines(distances):
    """Records by their distance; None for a failure."""
    return [
        {"success": one is not None, "status": "found" if one is not None else "exhausted", "l2": one or 0.5}
        for one in distances
    ]


@pytest.fixture
def pairs(tmp_path):
    """Three differences: a smaller distance on every image, a lower success rate, and none at all."""
    folder = tmp_path / "attacks" / "digits_vgg16" / "other_class"
    study.write_records(folder / "base", l2_lines([1.0] * 8))
    study.write_records(folder / "nearer", l2_lines([0.5] * 8))
    study.write_records(folder / "fails", l2_lines([None] * 7 + [1.0]))
    rows = [
        part("jma_04", None, difference=words, base=jma("base"), variant=jma(slug))
        for words, slug in (
            ("no clipping", "nearer"),
            ("the bisection keeps the nearest image", "fails"),
            ("seven bisections", "base"),
        )
    ]
    return {"name": "jma_variants", "title": "Variants", "kind": "variants", "stands_in": "", "rows": rows}, tmp_path


def test_variants_are_compared_image_by_image(pairs):
    spec, folder = pairs
    table = variants.lines(spec, folder / "attacks")
    assert table["both"].tolist() == [8, 1, 8]
    assert table["base_only"].tolist() == [0, 7, 0]
    assert table["variant_only"].tolist() == [0, 0, 0]
    assert table["variant_nearer"].tolist() == [8, 0, 0]
    assert table["l2_ratio_median"].tolist() == [0.5, 1, 1]
    assert table["base_asr"].tolist() == [1, 1, 1]
    assert table["variant_asr"].tolist() == [1, 0.125, 1]


def test_variant_findings_say_which_differences_count(pairs):
    spec, folder = pairs
    opening, nearer, fails, same, distortion = variants.findings(variants.lines(spec, folder / "attacks"))
    assert opening.startswith("Of 3 differences 2 change")
    assert "and 1 change neither on any image" in opening
    assert nearer.startswith("no clipping (Table 4, JMA (0.1, 200)): ")
    assert "L2 0.50 times in the median, its perturbation is smaller (p = 0.008)" in nearer
    assert "0.12 [" in fails
    assert "it succeeds less often (p = 0.016)" in fails
    assert "the same success and the same distance on every image; passes per image 120 → 120" in same
    assert distortion.startswith("Distortion: the paper's formula")


def test_an_attacks_own_count_stands_beside_the_verdict(pairs):
    spec, folder = pairs
    place = folder / "attacks" / "digits_vgg16" / "other_class" / "fails"
    kept = [{"success": False, "first_success": 3, "mse": 4e-4, "l2": 0.5, "status": "exhausted"}] * 8
    study.write_records(place, kept)
    table = variants.lines(spec, folder / "attacks")
    assert table["variant_asr"][1] == 0
    assert (table["variant_own_asr"][1], table["variant_own_mse_mean"][1]) == (1, pytest.approx(4e-4))
    says = variants.findings(table)
    assert "by the attack's own count 1.00 → 1.00, with MSE" in says[2]
    assert "→ 4.0e-4 over these" in says[2]
    assert "own count" not in says[1]
    assert any(text.startswith("Distortion: ") for text in says)


def test_variants_without_a_common_success(tmp_path):
    folder = tmp_path / "attacks" / "digits_vgg16" / "other_class"
    study.write_records(folder / "base", l2_lines([1.0, None]))
    study.write_records(folder / "other", l2_lines([None, 1.0]))
    row = part("jma_04", None, difference="x", base=jma("base"), variant=jma("other"))
    table = variants.lines({"rows": [row]}, tmp_path / "attacks")
    assert np.isnan(table["l2_ratio_median"][0])
    assert "no image is reached by both" in variants.findings(table)[1]


def test_variants_on_other_images_are_refused(pairs):
    spec, folder = pairs
    study.write_records(folder / "attacks" / "digits_vgg16" / "other_class" / "nearer", l2_lines([0.5] * 5))
    with pytest.raises(ValueError, match=r"nearer/records.parquet is not about the same images"):
        variants.lines(spec, folder / "attacks")


@pytest.mark.parametrize("name", ["steps", "ranks", "pairs"])
def test_derived_tables_are_written_in_three_formats_and_read_back(request, name):
    spec, folder = request.getfixturevalue(name)
    spec["stands_in"] = "small pictures for large ones"
    out = folder / "tables" / spec["name"]
    write_table(spec, folder / "attacks", None, out)
    table = read_derived(spec, out.with_suffix(".csv"))
    text = out.with_suffix(".md").read_text()
    assert text.startswith(derived_caption(spec, table))
    assert "They stand in for small pictures for large ones. Each row rests on" in text
    assert "## What this table says" in text
    assert "nan" not in text
    latex = out.with_suffix(".tex").read_text()
    assert latex.count("{") == latex.count("}")
    assert "\\cmidrule(lr){" in latex
    assert all(character.isascii() for character in latex)
    first = "rows" if "rows" in spec else "parts"
    with pytest.raises(ValueError, match="holds other rows than the study"):
        read_derived({**spec, first: spec[first][:0]}, out.with_suffix(".csv"))
    with pytest.raises(ValueError, match="has no rows to sum up"):
        write_table({**spec, first: []}, folder / "attacks", None, out)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'sum'; there are attacks, one_step, jacobian_rank, variants"):
        write_table({"name": "x", "kind": "sum"}, tmp_path, None, tmp_path / "x")


def test_a_damaged_run_stops_a_derived_table(steps):
    spec, folder = steps
    path = folder / "attacks" / "digits_vgg16" / "other_class" / "large" / "records.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"large/records.parquet is damaged"):
        write_table(spec, folder / "attacks", None, folder / "out")
    assert not (folder / "out.csv").exists()
