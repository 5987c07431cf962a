"""The table of transfer, its map, and what a study says of them; every number worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from wolfe.cli import app
from wolfe.files import sha256
from wolfe.report import transfer
from wolfe.report.articles import figure_article, table_article
from wolfe.report.derived import read_derived
from wolfe.report.figures import write_figure
from wolfe.report.tables import write_table
from wolfe.report.transfer_map import draw_transfer, read_transfer_table, transfer_caption
from wolfe.study import Study, StudyError, rows_needed, rule_graph, transfer_runs
from wolfe.study.document import ROOT

from ..conftest import rewrite_run
from .test_study import small_study

JMA, LOTS = {"attack": "jma", "slugs": ["jma", "jma-2"]}, {"attack": "lots", "slugs": ["lots"]}


def verdict(image, source="one", other="code", slug="jma", **more: object):
    """A verdict on one image: it counts, and nothing transfers unless said."""
    line = {"image_id": f"test-{image:05d}", "true_label": 0, "target": 1, "source": source, "targets": "other_class"}
    line |= {"slug": slug, "attack": "jma", "classifier": other, "l2": 1.0}
    line |= dict.fromkeys(("source_success", "source_success_8bit", "decided_rightly"), True)
    line |= dict.fromkeys(("already_there", "targeted", "untargeted", "targeted_8bit", "untargeted_8bit"), False)
    line |= {"untargeted_shuffled": False}
    return (
        line | {"bits_total": 0, "bits_asked": 0, "bits_reached": 0, "bits_reached_8bit": 0, "bits_changed": 0} | more
    )


def write_verdicts(folder, lines):
    folder.mkdir(parents=True)
    pd.DataFrame(lines).to_parquet(folder / "records.parquet", index=False)
    rewrite_run(folder, {"outputs": {"records.parquet": sha256(folder / "records.parquet")}})


@pytest.fixture
def spec():
    """A table of one attack, by two rows, on one classifier, and a table of another on the other."""
    tables = [
        {"table": "jma_01", "model": "one", "targets": "other_class", "attacks": [JMA]},
        {"table": "jma_04", "model": "code", "targets": "other_class", "attacks": [LOTS]},
    ]
    models = [{"name": "one", "encoding": "one_hot"}, {"name": "code", "encoding": "codebook"}]
    transfers = [{"name": "digits", "dataset": "digits", "models": models, "tables": tables}]
    more = {"stands_in": "small networks stand in for large ones", "levels": 2, "transfers": transfers}
    return {"name": "transfer_matrix", "kind": "transfer", "title": "Transfer"} | more


@pytest.fixture
def verdicts(tmp_path):
    """Verdicts on six images under two rows of one attack, and on four under another."""
    bits = {"bits_total": 16, "bits_asked": 8}
    far = {"l2": 3.0, "untargeted": True, "bits_changed": 6}
    lines = [
        verdict(0, **bits, **far, targeted=True, bits_reached=8)
        | {"bits_changed": 9, "untargeted_8bit": True, "untargeted_shuffled": True},
        verdict(1, **bits, **far, bits_reached=4),
        verdict(2, **bits, bits_reached=0),
        verdict(3, **bits, source_success=False, targeted=True, untargeted=True),
        verdict(4, **bits, decided_rightly=False, targeted=True, untargeted=True),
        verdict(5, **bits, already_there=True, targeted=True),
        verdict(0, slug="jma-2", **bits, bits_reached=0),
        verdict(1, slug="jma-2", **bits, l2=3.0, bits_reached=4, bits_changed=4),
        *(verdict(image, "code", "one", "lots", untargeted=image < 2, l2=2.0) for image in range(4)),
    ]
    write_verdicts(tmp_path / "transfer" / "digits", lines)
    return tmp_path


def test_numbers_of_a_line_by_hand(spec, verdicts):
    table = transfer.lines(spec, verdicts / "transfer")
    first, second = table.to_dict("records")
    assert (first["table"], first["model"], first["other"], first["rows"]) == ("jma_01", "one", "code", 2)
    assert (first["examples"], first["successes"], first["counted"]) == (8, 7, 5)
    assert (first["images"], first["counted_images"]) == (6, 3)
    assert (first["targeted"], first["untargeted"]) == (1, 2)
    assert (first["targeted_share"], first["untargeted_share"]) == (0.2, 0.4)
    assert first["untargeted_95_low"] < 0.4 < first["untargeted_95_high"]
    assert (first["untargeted_share_8bit"], first["targeted_share_8bit"]) == (0.2, 0)
    assert first["bits_share"] == pytest.approx(16 / 40)
    assert (first["other_bits_changed"], first["other_bits"]) == (1 + 2, 40)
    assert (first["own_share"], first["shuffled_share"]) == (7 / 8, 0.2)
    # Eleven successes, of L2 1 (four), 2 (four) and 3 (three): half lie up to 2.
    assert (first["level_1_l2_to"], first["level_2_l2_to"]) == (2, 3)
    assert (first["level_1_counted"], first["level_2_counted"]) == (2, 3)
    assert (first["level_1_untargeted"], first["level_2_untargeted"], first["level_2_targeted"]) == (0, 2, 1)
    assert (second["untargeted_share"], second["targeted_share"]) == (0.5, 0)
    assert np.isnan(second["bits_share"])


def test_the_table_says_what_counts_and_is_read_back(spec, verdicts):
    write_table(spec, verdicts / "transfer", None, verdicts / "tables" / "transfer_matrix")
    text = (verdicts / "tables" / "transfer_matrix.md").read_text()
    for expected in (
        "Nothing was attacked for this table",
        "5 of 7",
        "3 of 6",
        "digits up to 2.00 and up to 3.00",
        "Over all lines (9 verdicts of other classifiers) 11.1 % reach the target",
        "40.0 % of the bits asked for are reached",
    ):
        assert expected in text
    assert (verdicts / "tables" / "transfer_matrix.tex").read_text().count("\\\\") > 3
    table = read_derived(spec, verdicts / "tables" / "transfer_matrix.csv")
    pd.testing.assert_frame_equal(table, transfer.lines(spec, verdicts / "transfer"), check_dtype=False)
    spec["transfers"][0]["tables"].pop()
    with pytest.raises(ValueError, match="holds other rows than the study"):
        read_derived(spec, verdicts / "tables" / "transfer_matrix.csv")


def test_findings_compare_levels_attacks_and_pairs_only_where_enough_counts(spec, tmp_path):
    near = [verdict(image, untargeted=image < 3) for image in range(30)]
    far = [verdict(image, slug="jma-2", l2=4.0, untargeted=image < 20) for image in range(30)]
    lots = [verdict(image, "code", "one", "lots", l2=2.0, untargeted=True) for image in range(12)]
    write_verdicts(tmp_path / "digits", [*near, *far, *lots])
    says = transfer.findings(transfer.lines(spec, tmp_path))
    assert any("untargeted transfer is 35.7 % and 66.7 % (it rises with every level)" in text for text in says)
    assert any("LOTS 100.0 %" in text and "JMA 38.3 %" in text for text in says)
    assert any("most transfers from code to one (ECOC to one-hot): 100.0 % untargeted" in text for text in says)
    few = transfer.findings(transfer.lines(spec, tmp_path).assign(counted=1, level_1_counted=1, level_2_counted=1))
    assert not any(text.startswith(("Distortion", "Attacks", "Classifiers")) for text in few)


def test_without_any_success_there_is_a_table_all_the_same(spec, tmp_path):
    failed = [verdict(0, source_success=False), verdict(0, slug="jma-2", source_success=False)]
    write_verdicts(tmp_path / "transfer" / "digits", [*failed, verdict(0, "code", "one", "lots", source_success=False)])
    table = transfer.lines(spec, tmp_path / "transfer")
    assert table["targeted_share"].isna().all()
    assert "nothing could transfer" in transfer.findings(table)[0]
    write_table(spec, tmp_path / "transfer", None, tmp_path / "tables" / "transfer_matrix")
    figure = {"name": "map", "title": "A map", "kind": "transfer", "table": spec}
    write_figure(figure, tmp_path, None, tmp_path / "map")
    assert (tmp_path / "map.pdf").stat().st_size


def test_missing_damaged_and_foreign_verdicts_are_named(spec, verdicts):
    folder = verdicts / "transfer" / "digits"
    spec["transfers"][0]["tables"][0]["attacks"] = [{"attack": "jma", "slugs": ["jma-3"]}]
    with pytest.raises(ValueError, match="lacks the verdicts on one other_class code jma-3"):
        transfer.lines(spec, verdicts / "transfer")
    with (folder / "records.parquet").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ValueError, match=r"records.parquet is damaged"):
        transfer.lines(spec, verdicts / "transfer")
    (folder / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"run.json is missing"):
        transfer.lines(spec, verdicts / "transfer")


def test_the_map_shows_every_attack_on_every_classifier(spec, verdicts):
    write_table(spec, verdicts / "transfer", None, verdicts / "tables" / "transfer_matrix")
    figure = {"name": "transfer_matrix", "title": "A map", "kind": "transfer", "table": spec}
    drawn = draw_transfer(figure, verdicts)
    targeted, untargeted, bits, levels = drawn.axes
    assert [label.get_text() for label in targeted.get_yticklabels()] == ["one  JMA", "code  LOTS"]
    assert [label.get_text() for label in targeted.get_xticklabels()] == ["one", "code"]
    # Own success 7 of 8; targeted transfer 1 of 5; LOTS on its own classifier 4 of 4, on the other 0 of 4.
    assert [text.get_text() for text in targeted.texts] == ["(88)", "(20)", "(0)", "(100)"], "few examples"
    assert [text.get_text() for text in untargeted.texts] == ["(40)", "(50)"]
    assert [text.get_text() for text in bits.texts] == ["(40)"]
    assert [text.get_text() for text in levels.texts] == ["(0)", "(67)", "(50)"]
    for name in ("first", "second"):
        write_figure(figure, verdicts, None, verdicts / name)
    for kind in ("pdf", "png"):
        assert (verdicts / f"first.{kind}").read_bytes() == (verdicts / f"second.{kind}").read_bytes()
    caption = transfer_caption(figure, read_transfer_table(figure, verdicts))
    assert "the attacked classifier (one-hot and ECOC)" in caption
    with pytest.raises(ValueError, match="needs --results"):
        write_figure(figure, None, None, verdicts / "third")


def test_the_report_shows_the_table_and_the_map_and_links_to_the_tables_of_attacks(spec, verdicts):
    for name in ("tables", "figures"):
        (verdicts / name).mkdir()
    write_table(spec, verdicts / "transfer", None, verdicts / "tables" / "transfer_matrix")
    table = table_article(spec, verdicts, {})
    assert [(row["label"], row["link"]) for row in table["rows"]] == [
        ("Table 1", "#table-jma_01"),
        ("Table 4", "#table-jma_04"),
    ]
    assert table["headers"][1][0] == "From"
    figure = {"name": "transfer_matrix", "title": "A map", "kind": "transfer", "table": "transfer_matrix"}
    write_figure(figure | {"table": spec}, verdicts, None, verdicts / "figures" / "transfer_matrix")
    article = figure_article(figure, {"transfer_matrix": spec}, verdicts)
    assert article["caption"].startswith("Rows: the attacked classifier")
    assert article["caption"].endswith("Small networks stand in for large ones.")


# The study.


def with_transfer(**more: object):
    config = small_study()
    config["transfers"] = {"digits": {"models": ["vgg", "ecoc"]}, **more}
    config["tables"]["matrix"] = {"kind": "transfer", "title": "Transfer", "transfers": ["digits"]}
    config["figures"]["matrix"] = {"kind": "transfer", "title": "A map", "table": "matrix"}
    return config


def test_a_study_asks_about_every_row_of_every_table_on_its_models():
    study = Study.from_config(with_transfer())
    (digits,) = study.tables["matrix"]["transfers"]
    assert digits == study.transfers["digits"]
    assert digits["models"] == [{"name": "vgg", "encoding": "one_hot"}, {"name": "ecoc", "encoding": "codebook"}]
    assert [table["table"] for table in digits["tables"]] == ["first", "second"]
    rows = [(table["model"], table["targets"], row["slug"]) for table in study.tables.values() for row in _rows(table)]
    assert transfer_runs(digits) == [row for row in rows if row[0] in ("vgg", "ecoc")]
    assert [row["slug"] for _, _, row in rows_needed(study.tables["matrix"])] == [row[2] for row in rows[:4]]
    assert study.figures["matrix"]["table"]["name"] == "matrix"
    assert study.report_spec()["figures"][-1]["table"] == "matrix"
    assert study.batches == Study.from_config(small_study()).batches, "nothing is attacked twice"


def _rows(table):
    return table["rows"] if table["kind"] == "attacks" else []


def test_the_embedded_study_asks_all_families_about_all_their_tables():
    said = CliRunner().invoke(app, ["validate", str(ROOT / "config" / "embedded.yaml")]).stdout
    assert "table transfer_matrix: transfer of the attacks of 20 tables, in 4 sets of classifiers" in said


def test_a_transfer_may_keep_to_some_tables():
    study = Study.from_config(with_transfer(digits={"models": ["vgg", "ecoc"], "tables": ["second"]}))
    assert [table["table"] for table in study.transfers["digits"]["tables"]] == ["second"]


def test_the_graph_leads_from_attacks_over_verdicts_to_the_map():
    graph = rule_graph(Study.from_config(with_transfer()))
    edges = {("attack_first", "transfer"), ("attack_second", "transfer"), ("transfer", "table")}
    edges |= {("table", "transfer_figure"), ("transfer_figure", "report"), ("train", "transfer")}
    names = [line.split('"')[1] for line in graph.splitlines() if "label=" in line]
    assert all(f"{names.index(tail)} -> {names.index(head)};" in graph for tail, head in edges)
    assert f"{names.index('attack_third')} -> {names.index('transfer')};" not in graph


@pytest.mark.parametrize(
    ("transfers", "expected"),
    [
        ({"digits": {"models": ["vgg", "eccoc"]}}, "transfers.digits.models[1]: there is no model 'eccoc'; did you"),
        ({"digits": {"models": ["vgg", "labels"]}}, "labels has the labels of scenes, vgg those of digits"),
        ({"digits": {"models": ["vgg"]}}, "transfers.digits.models"),
        ({"digits": {"models": ["vgg", "ecoc"], "tables": ["third"]}}, "there is no table of attacks on these models"),
        ({"dgits": {"models": ["vgg", "ecoc"]}, "digits": ...}, "tables.matrix.transfers[0]: there is no transfer"),
    ],
)
def test_wrong_transfers_are_told_what_is_wrong(transfers, expected):
    config = with_transfer(**transfers)
    config["transfers"] = {name: entry for name, entry in config["transfers"].items() if entry is not ...}
    with pytest.raises(StudyError) as error:
        Study.from_config(config)
    assert expected in str(error.value)


def test_a_map_needs_a_table_of_transfer_and_models_need_attacks():
    config = with_transfer()
    config["figures"]["matrix"]["table"] = "first"
    with pytest.raises(StudyError, match="there is no table of transfer 'first'"):
        Study.from_config(config)
    config = with_transfer()
    config["models"]["more"] = config["models"]["most"] = config["models"]["vgg"]
    config["transfers"]["digits"] = {"models": ["more", "most"]}
    with pytest.raises(StudyError, match="no table attacks any of them"):
        Study.from_config(config)
