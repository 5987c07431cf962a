"""Tables: aggregates, intervals, published numbers, marks, findings and the three formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit import report_study as study
from wolfe.report import words
from wolfe.report.findings import findings, representative
from wolfe.report.published import published_columns
from wolfe.report.records import read_row, read_rows
from wolfe.report.summary import summarise, summarise_records, wilson_interval
from wolfe.report.tables import read_table, write_table

from ..conftest import rewrite_run

PUBLISHED = Path(__file__).parents[2] / "config" / "published"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The attack rows of the one-hot table, made once."""
    return study.write_attacks(tmp_path_factory.mktemp("rows"), study.table_spec(), study.pictures(16))


@pytest.fixture
def one_hot(made, tmp_path):
    """A table's spec and a copy of its attack rows to do anything to."""
    return study.table_spec(), Path(shutil.copytree(made, tmp_path / "attacks"))


@pytest.fixture
def written(one_hot, tmp_path):
    spec, attacks = one_hot
    write_table(spec, attacks, PUBLISHED / "jma_table_04.csv", tmp_path / "tables" / "jma_04")
    return spec, tmp_path / "tables"


def test_wilson_interval_agrees_with_its_closed_form():
    for successes, images in [(0, 32), (5, 32), (32, 32)]:
        z, p = 1.959963984540054, successes / images
        middle = (p + z**2 / (2 * images)) / (1 + z**2 / images)
        half = z / (1 + z**2 / images) * np.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
        expected = max(middle - half, 0), min(middle + half, 1)
        assert wilson_interval(successes, images) == pytest.approx(expected, abs=1e-12)


def test_means_are_over_successes_and_rates_over_all_images(one_hot):
    _, attacks = one_hot
    records = read_row(attacks / "rival-ours").records
    summary = summarise_records(records)
    found = records[records["success"]]
    assert 0 < len(found) < len(records)
    assert summary["asr"] == len(found) / len(records)
    assert summary["mse_mean"] == pytest.approx(found["mse"].mean())
    assert summary["l2_median"] == pytest.approx(np.median(found["l2"]))
    assert summary["seconds_per_image_mean"] == pytest.approx(found["seconds"].mean())
    assert summary["passes_per_image_mean"] == 120
    assert summary["asr_8bit"] == records["success_8bit"].mean()
    assert summary["status_found"] + summary["status_exhausted"] + summary["status_timed_out"] == len(records)


def test_bit_success_counts_all_bits_of_all_images_and_is_for_label_vectors_only(tmp_path):
    spec = study.table_spec("jma_08", multi_label=True)
    attacks = study.write_attacks(tmp_path, spec, study.pictures(6, 3))
    assert summarise_records(read_row(attacks / "rival-cut").records)["basr"] == pytest.approx(18 / 20)
    study.write_row(tmp_path, "classes", study.pictures(3), False, (1.0, 0.1))
    assert np.isnan(summarise_records(read_row(tmp_path / "classes").records)["basr"])


def test_nothing_found_has_no_means(written):
    _, tables = written
    table = read_table(tables / "jma_04.csv")
    cut = table.iloc[1]
    assert cut["asr"] == 0
    assert cut[["mse_mean", "ssim_mean", "iterations_mean", "seconds_per_image_mean", "l2_median"]].isna().all()
    line = (tables / "jma_04.md").read_text().splitlines()[5]
    assert "C&W (1e-4, 5, 500)" in line
    assert line.count("—") == 5


def test_published_numbers_stand_beside_ours_as_printed(written):
    _, tables = written
    table = read_table(tables / "jma_04.csv")
    jma = table.iloc[0]
    assert (jma["published_asr"], jma["published_mse"], jma["published_time_s"]) == ("1.00", "1.1e-4", "3.14")
    assert table.iloc[2]["published_asr"] == ""


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("jma_table_*.csv")), ids=lambda path: path.stem)
def test_every_published_row_can_be_referred_to(path):
    printed = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = [
        study.row(str(number), "jma", "x", published={"attack": line.attack, "params": line.params.replace(" ", "")})
        for number, line in enumerate(printed.itertuples())
    ]
    found = published_columns({"rows": rows}, path)
    assert found["published_asr"].tolist() == printed["asr"].tolist()
    assert not (found["published_asr"] == "").any()


def test_an_unknown_published_row_is_an_error_that_lists_what_there_is(one_hot, tmp_path):
    spec, attacks = one_hot
    spec["rows"][0]["published"] = {"attack": "JMA", "params": "(0.07, 200)"}
    with pytest.raises(ValueError, match=r"(?s)jma_table_04.csv holds no row .*0.07.*JMA \(0.05, 200\)"):
        write_table(spec, attacks, PUBLISHED / "jma_table_04.csv", tmp_path / "out")
    with pytest.raises(ValueError, match="names no published CSV"):
        write_table(spec, attacks, None, tmp_path / "out")


def test_published_files_that_cannot_be_read_are_named(one_hot, tmp_path):
    spec, attacks = one_hot
    with pytest.raises(FileNotFoundError, match=r"nothing.csv is missing"):
        write_table(spec, attacks, tmp_path / "nothing.csv", tmp_path / "out")
    (tmp_path / "odd.csv").write_text("attack,params\nJMA,1\n")
    with pytest.raises(ValueError, match=r"odd.csv lacks the columns asr"):
        write_table(spec, attacks, tmp_path / "odd.csv", tmp_path / "out")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match=r"empty.csv is no readable CSV"):
        write_table(spec, attacks, tmp_path / "empty.csv", tmp_path / "out")


def test_cut_rows_and_rows_of_ours_are_marked(written):
    _, tables = written
    text = (tables / "jma_04.md").read_text()
    assert "budget cut, not comparable (max_iterations 500 → 20)" in text
    assert "ours: initial_constant 1.0, max_iterations 60" in text
    assert "LOTS, tuned (ours)" in text
    assert "C&W (ours, short budget) (ours)" not in text
    latex = (tables / "jma_04.tex").read_text()
    assert "C\\&W (1e-4, 5, 500)$^\\dagger$" in latex
    assert "$^\\dagger$ budget cut, not comparable." in latex


def test_caption_says_what_the_table_rests_on(written):
    caption = (written[1] / "jma_04.md").read_text().split("\n")[0]
    for words_ in (
        "16 correctly classified test images",
        "another class, drawn at random",
        "Small pictures stand in for large ones.",
        "Budget of C&W and LOTS: the published iterations are cut to 1/60 of their number (but to no fewer than 20)",
        "at most 5 search steps",
        "batch of up to 32 on CPU (x86_64, 2 threads)",
        "not comparable with the published ones",
    ):
        assert words_ in caption


def test_caption_tells_several_budgets_and_the_time_limit(one_hot, tmp_path):
    spec, attacks = one_hot
    spec["budgets"].append({"attacks": ["jma"], "iteration_scale": 0.25, "minimum_iterations": 50})
    write_table({**spec, "time_limit": 3600}, attacks, PUBLISHED / "jma_table_04.csv", tmp_path / "out")
    caption = (tmp_path / "out.md").read_text().split("\n")[0]
    assert "at most 5 search steps are made. Budget of JMA: the published iterations are cut to 1/4" in caption
    assert "An image on which an attack has worked for 1 h is given up." in caption
    assert "given up" not in words.caption(spec, summarise(spec, read_rows(spec, attacks)))


def test_consistency_stands_only_where_labels_have_a_hierarchy(tmp_path):
    spec = study.table_spec("jma_13", multi_label=True)
    spec["rows"] = [study.row("jma-a", "jma", "JMA (0.1,500)"), study.row("lots", "lots", "LOTS")]
    folder = tmp_path / "attacks"
    study.write_records(folder / "jma-a", [{"consistent": value} for value in (True, True, False, True)], True)
    study.write_records(folder / "lots", [{"consistent": None, "success": False}] * 4, True)
    write_table(spec, folder, None, tmp_path / "with")
    assert read_table(tmp_path / "with.csv")["consistent"].tolist() == [0.75, pytest.approx(np.nan, nan_ok=True)]
    text = (tmp_path / "with.md").read_text()
    assert "Ours: consistent" in text
    assert "obey the hierarchy of labels" in text
    spec["rows"] = spec["rows"][1:]
    write_table(spec, folder, None, tmp_path / "without")
    assert "onsistent" not in (tmp_path / "without.md").read_text()


def test_equal_runs_under_one_budget_are_told(one_hot, tmp_path):
    spec, attacks = one_hot
    spec["rows"].append(study.row("rival-cut", "carlini_wagner", "C&W (1e-4, 5, 100)", cut=True))
    write_table(spec, attacks, PUBLISHED / "jma_table_04.csv", tmp_path / "out")
    assert "same run as C&W (1e-4, 5, 500)" in (tmp_path / "out.md").read_text()


def test_latex_is_balanced_and_escaped(written):
    latex = (written[1] / "jma_04.tex").read_text()
    assert latex.count("{") == latex.count("}")
    assert "\\multicolumn{8}{c}{Ours}" in latex
    assert "\\cmidrule(lr){2-9} \\cmidrule(lr){10-13}" in latex
    body = latex.replace("\\_", "").replace("\\%", "").replace("\\&", "").replace("tab:jma_04", "")
    assert "_" not in body
    assert all(character.isascii() for character in latex)
    assert latex.count("\\\\") == 6


def test_findings_follow_the_numbers_in_either_direction(one_hot):
    spec, attacks = one_hot
    table = summarise(spec, read_rows(spec, attacks))
    ahead = findings(table, read_rows(spec, attacks))
    assert len(ahead) == 3
    assert "JMA's perturbation is smaller" in ahead[1]
    assert "1.3" in ahead[1].split("times JMA's")[0][-6:]
    spec["rows"][0]["slug"], spec["rows"][2]["slug"] = "rival-ours", "jma-a"
    results = read_rows(spec, attacks)
    behind = findings(summarise(spec, results), results)
    assert "the rival's perturbation is smaller" in behind[1]


def test_findings_leave_out_cut_rows_and_say_so(one_hot):
    spec, attacks = one_hot
    results = read_rows(spec, attacks)
    spec["rows"][0]["cut"] = True
    for row in spec["rows"][2:]:
        row["cut"] = True
    table = summarise(spec, results)
    assert representative(table, "carlini_wagner") is None
    says = findings(table, results)
    assert says[0].startswith("Every JMA row of this table ran with less than its published budget")
    assert says[1] == "C&W: every row ran with a cut budget, so nothing is concluded."
    alone = findings(table[table["attack"] == "jma"], results)
    assert alone == ["This table holds no rival of JMA, so it compares nothing."]


def test_findings_without_common_success(tmp_path):
    spec = study.table_spec()
    attacks = tmp_path
    for row, share in zip(spec["rows"], (1.0, 0.0, 0.0, 1.0), strict=True):
        study.write_row(attacks, row["slug"], study.pictures(4), False, (share, 0.05))
    results = read_rows(spec, attacks)
    says = findings(summarise(spec, results), results)
    assert "There is no image on which both succeed" in says[1]
    assert "no difference that these images can show (p = 0.125)" in says[1]
    assert "both succeed on the same images" in says[2]


def test_a_changed_file_is_refused_by_name(one_hot, tmp_path):
    spec, attacks = one_hot
    path = attacks / "lots" / "adversarials.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"lots/adversarials.safetensors is damaged"):
        write_table(spec, attacks, PUBLISHED / "jma_table_04.csv", tmp_path / "out")
    assert not (tmp_path / "out.csv").exists()


def test_unreadable_records_are_refused_by_name(one_hot):
    folder = one_hot[1] / "jma-a"
    records = pd.read_parquet(folder / "records.parquet")
    for frame, message in (
        (records.drop(columns="l2"), "lacks the columns l2"),
        (records.iloc[:0], "holds no image"),
        (records.assign(status="lost"), "status 'lost'"),
    ):
        frame.to_parquet(folder / "records.parquet", index=False)
        study.write_run(folder)
        with pytest.raises(ValueError, match=f"jma-a/records.parquet.*{message}"):
            read_row(folder)
    (folder / "records.parquet").write_bytes(b"PAR1 but not really")
    study.write_run(folder)
    with pytest.raises(ValueError, match=r"records.parquet is no readable parquet"):
        read_row(folder)


def test_missing_runs_and_checksums_are_named(one_hot, tmp_path):
    _, attacks = one_hot
    with pytest.raises(FileNotFoundError, match=r"never-run/run.json is missing"):
        read_row(attacks / "never-run")
    rewrite_run(attacks / "lots", {"outputs": {}})
    with pytest.raises(ValueError, match=r"lots/run.json holds no checksum of records.parquet"):
        read_row(attacks / "lots")
    with pytest.raises(ValueError, match="'empty' has no rows"):
        read_rows({"name": "empty", "rows": []}, attacks)
    with pytest.raises(FileNotFoundError, match=r"none.csv is missing"):
        read_table(tmp_path / "none.csv")


def test_rows_about_other_images_are_refused(one_hot):
    spec, attacks = one_hot
    study.write_row(attacks, "fewer", study.pictures(5), False, (1.0, 0.1))
    spec["rows"].append(study.row("fewer", "lots", "LOTS"))
    with pytest.raises(ValueError, match=r"fewer/records.parquet is not about the same images and targets"):
        read_rows(spec, attacks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.scientific(0.00011), "1.1e-4"),
        (words.scientific(0.0), "0"),
        (words.scientific(float("nan")), "—"),
        (words.significant(0.0123456), "0.0123"),
        (words.significant(1234.5), "1,234"),
        (words.significant(3.14159), "3.14"),
        (words.duration(3.2), "3.2 s"),
        (words.duration(250), "4 min 10 s"),
        (words.duration(3900), "1 h 5 min"),
        (words.duration(7200), "2 h"),
        (words.table_name("jma_10a"), "Table 10a"),
        (words.table_name("jma_variants"), "jma_variants"),
        (words.encoding_name("codebook"), "ECOC"),
        (words.share(0.0167), "1/60"),
        (words.share(0.4), "40 %"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.target_rule({"targets": "nearest_class"}), "nearest class"),
    ],
)
def test_numbers_in_words(text, expected):
    assert text == expected


def test_a_rule_with_parameters_in_words():
    rule = {"rule": "flip_bits", "bits": 10}
    assert words.target_rule({"targets": "flip_bits_10", "rule": rule}) == "the true labels with 10 flipped at random"
    any_image = {"targets": "flip_bits_10_any", "rule": {**rule, "only_correct": False}}
    assert words.target_rule(any_image) == "the predicted labels with 10 flipped at random"


@pytest.fixture
def some_images(tmp_path):
    """A table whose rival attacked the first 3 of 8 images."""
    spec = study.table_spec()
    spec["rows"] = [
        study.row("jma-a", "jma", "JMA (0.05, 200)"),
        study.row("lots", "lots", "LOTS", images=3),
    ]
    study.write_records(tmp_path / "jma-a", [{"success": index < 6, "l2": 1.0 + index} for index in range(8)])
    study.write_records(tmp_path / "lots", [{"l2": 3.0}] * 3)
    return spec, tmp_path


def test_rows_with_fewer_images_say_how_many(some_images, tmp_path):
    spec, attacks = some_images
    write_table(spec, attacks, None, tmp_path / "table")
    text = (tmp_path / "table.md").read_text()
    assert "8 correctly classified test images, the same with the same targets in every row, of which some" in text
    assert "Ours: images" in text
    assert read_table(tmp_path / "table.csv")["images"].tolist() == [8, 3]
    spec["rows"] = spec["rows"][:1]
    write_table(spec, attacks, None, tmp_path / "alone")
    assert "Ours: images" not in (tmp_path / "alone.md").read_text()


def test_rows_are_compared_on_the_images_that_both_have(some_images):
    spec, attacks = some_images
    results = read_rows(spec, attacks)
    says = findings(summarise(spec, results), results)
    assert "both are counted on those alone" in says[0]
    assert "With 3 to 8 images only large differences" in says[0]
    assert says[1].startswith("LOTS (on 3 images): ASR")
    assert "ASR 1.00 [0.44, 1.00] against 1.00 [0.44, 1.00] for JMA" in says[1]
    assert "median L2 over its own successes 3.00 against 2.00" in says[1], "of images 1 to 3 alone"


def test_rows_with_fewer_images_than_they_should_have_are_refused(some_images):
    spec, attacks = some_images
    for images in (None, 4, 2):
        spec["rows"][1]["images"] = images
        with pytest.raises(ValueError, match=r"lots/records.parquet is not about the same images"):
            read_rows(spec, attacks)


def test_bounded_iterations_and_images_stand_in_the_caption():
    rule = {"attacks": ["lots"], "maximum_search_steps": 3, "maximum_iterations": 1000, "images": 20}
    assert words.budget([rule]) == (
        "Budget of LOTS: at most 3 search steps are made, at most 1,000 iterations are made in all and only the first "
        "20 images are attacked."
    )
