"""Tables and curves of detectors: every number worked out by hand or by another way."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wolfe.detection_lines import half_and_half
from wolfe.files import sha256
from wolfe.report import detection_figure, detection_matrix, detection_pooled, detection_single
from wolfe.report.derived import read_derived, write_derived
from wolfe.report.detection import accuracy, auc, auc_interval, read_detection
from wolfe.report.summary import wilson_interval

from ..conftest import rewrite_run

LEARNT = [{"label": "CE", "slug": "ce"}, {"label": "Logit", "slug": "logit"}]
RIVAL = [{"label": "JMA", "slug": "jma"}]
DETECTORS = ("AlexNet", "ResNet-18")
VERSIONS = {"genuine": ("", "", True), "extra genuine": ("", "", True), "CE": ("learnt", "ce", True)} | {
    "Logit": ("learnt", "logit", True),
    "JMA": ("rivals", "jma", False),
}


def said(version, images, scores, **more: object):
    """What a detector says of images of a version; by default AlexNet, pooled, on 8-bit images of the test part."""
    table, slug, learnt = VERSIONS[version]
    named = {"detector": "AlexNet", "trained_on": "pooled", "selected_on": "validation", "version": version}
    named |= {"table": table, "slug": slug, "learnt": learnt, "transform": "8bit", "split": "test", "true_label": 0}
    named |= {"adversarial": int("genuine" not in version), "reaches_target": "genuine" not in version}
    named |= {"l2": 2.0 * ("genuine" not in version)} | more
    return [named | {"image_id": f"test-{image}", "score": score} for image, score in zip(images, scores, strict=True)]


def everything(detector, trained_on):
    """Four test images: of CE three are detected, of Logit one, of JMA none; JPEG adds one false alarm."""
    lines = []
    for transform in ("float", "8bit", "jpeg"):
        who = {"detector": detector, "trained_on": trained_on, "transform": transform}
        lines += said("genuine", range(4), [-1.0, -1, -1, 2 if transform == "jpeg" else -3], **who)
        lines += said("CE", range(4), [1.0, 1, 3, -2], **who)
        lines += said("Logit", range(3), [1.0, -4, -5], **who)
        lines += said("JMA", range(2), [-3.0, -3], **who | {"reaches_target": transform == "float"})
    who = {"detector": detector, "trained_on": trained_on}
    lines += said("extra genuine", ("a", "b"), [-1.0, 1], **who)
    lines += said("CE", ("v",), [9.0], split="validation", **who)
    chosen = [line for line in lines if line["transform"] == "8bit" and line["learnt"] and line["split"] == "test"]
    return lines + [{**line, "selected_on": "test", "score": line["score"] + 1.5} for line in chosen]


def trainings():
    lines = []
    for detector in DETECTORS:
        for trained_on in ("pooled", "CE", "Logit"):
            for rate, on_validation in ((0.001, True), (0.0001, False)):
                line = {"detector": detector, "trained_on": trained_on, "learning_rate": rate}
                on_test = on_validation == (detector == "ResNet-18")
                lines.append(line | {"chosen_on_validation": on_validation, "chosen_on_test": on_test})
    return pd.DataFrame(lines)


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "experiments" / "found"
    folder.mkdir(parents=True)
    pairs = [(detector, "pooled") for detector in DETECTORS] + [("AlexNet", "CE"), ("AlexNet", "Logit")]
    records = pd.DataFrame([line for pair in pairs for line in everything(*pair)])
    records.to_parquet(folder / "records.parquet", index=False)
    trainings().to_parquet(folder / "detectors.parquet", index=False)
    sums = {name: sha256(folder / name) for name in ("records.parquet", "detectors.parquet")}
    rewrite_run(folder, {"outputs": sums})
    return tmp_path


@pytest.fixture
def experiment():
    shared = {"model": "single_resnet", "targets": "other_class"}
    return {
        "name": "found",
        "kind": "detection",
        "dataset": "scenes_single",
        "source": "single_resnet",
        "learn": {"table": "learnt", "rows": LEARNT, **shared},
        "tested": [{"table": "rivals", "rows": RIVAL, **shared}],
        "detectors": [{"name": name, "network": {}} for name in DETECTORS],
        "single": ["AlexNet"],
    }


@pytest.fixture
def spec(experiment):
    def make(kind):
        return {"name": kind, "kind": kind, "title": "Detectors", "stands_in": "", "experiments": [experiment]}

    return make


# Areas and shares.


def lines_of(adversarial, genuine):
    return pd.DataFrame(
        {
            "adversarial": [1] * len(adversarial) + [0] * len(genuine),
            "score": [*adversarial, *genuine],
            "image_id": [*range(len(adversarial)), *range(len(genuine))],
        }
    )


def test_area_by_hand():
    assert auc(lines_of([3.0, 2], [1.0, 0]))[0] == 1
    assert auc(lines_of([0.0, 1], [2.0, 3]))[0] == 0
    assert auc(lines_of([1.0, 3], [2.0, 0]))[0] == 0.75, "three of four pairs are in order"
    assert auc(lines_of([1.0], [1.0]))[0] == 0.5, "a tie counts half"
    assert np.isnan(auc(lines_of([1.0], []))).all()


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12), st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_area_is_the_share_of_pairs_in_order(adversarial, genuine):
    pairs = [(high > low) + 0.5 * (high == low) for high in adversarial for low in genuine]
    area, low, high = auc(lines_of([float(score) for score in adversarial], [float(score) for score in genuine]))
    assert area == pytest.approx(np.mean(pairs))
    assert 0 <= low <= area <= high <= 1


def test_interval_of_an_area_is_a_score_interval():
    for area, count in ((0.9, 40), (0.5, 100), (0.3, 15)):
        low, high = auc_interval(area, count, count)
        mirrored = auc_interval(1 - area, count, count)
        assert (1 - high, 1 - low) == pytest.approx(mirrored)
        assert (
            high - low < auc_interval(area, count // 2, count // 2)[1] - auc_interval(area, count // 2, count // 2)[0]
        )
    low, high = auc_interval(1.0, 20, 20)
    assert high == 1 and 0.8 < low < 0.95, "no certainty from twenty images"


def test_interval_of_an_area_covers_the_truth_about_as_often_as_it_says():
    generator, truth, hits = np.random.default_rng(0), 0.7602, 0
    for _ in range(200):
        _, low, high = auc(lines_of(generator.normal(1, 1, 40), generator.normal(0, 1, 40)))
        hits += low <= truth <= high
    assert 182 <= hits <= 200


def test_accuracy_counts_images_once_in_its_interval():
    lines = pd.DataFrame(said("CE", range(4), [1.0, 1, 1, -1]) + said("genuine", range(4), [-1.0] * 4))
    numbers = accuracy("x", lines)
    assert (numbers["x_right"], numbers["x_versions"], numbers["x_accuracy"]) == (7, 8, 0.875)
    assert (numbers["x_95_low"], numbers["x_95_high"]) == wilson_interval(4, 4), "3.5 of 4 images, rounded to even"
    assert np.isnan(accuracy("x", lines[:0])["x_accuracy"])


def test_a_score_of_zero_says_genuine():
    lines = pd.DataFrame(said("CE", (0,), [0.0]) + said("genuine", (0,), [0.0]))
    assert accuracy("x", lines)["x_right"] == 1


def test_half_and_half_leaves_out_genuine_images_without_an_adversarial_version():
    lines = pd.DataFrame(everything("AlexNet", "CE"))
    lines = lines[(lines["transform"] == "8bit") & (lines["split"] == "test") & (lines["selected_on"] == "validation")]
    own = half_and_half(lines, "Logit")
    assert own["version"].value_counts().to_dict() == {"genuine": 3, "Logit": 3}


# The tables.


def test_single_table_by_hand(spec, results):
    table = detection_single.lines(spec("detection_single"), results)
    first, second = table.to_dict("records")
    assert (first["table"], first["slug"], first["label"], first["images"]) == ("learnt", "ce", "CE", 4)
    assert first["AlexNet_both_accuracy"] == 7 / 8
    assert (first["AlexNet_adversarial_accuracy"], first["AlexNet_genuine_accuracy"]) == (0.75, 1.0)
    assert (second["images"], second["AlexNet_both_right"], second["AlexNet_both_versions"]) == (3, 4, 6)
    assert not [name for name in table if str(name).startswith("ResNet")], "only detectors trained on one attack"


def test_pooled_table_by_hand(spec, results):
    table = detection_pooled.lines(spec("detection_pooled"), results).set_index("slug")
    assert list(table.index) == ["ce", "logit", "adversarial", "genuine", "overall"]
    assert table["AlexNet_accuracy"].tolist() == pytest.approx([3 / 4, 1 / 3, 4 / 7, 5 / 6, 9 / 13])
    assert table["AlexNet_versions"].tolist() == [4, 3, 7, 6, 13]
    assert table["images"].tolist() == [4, 3, 4, 6, 6]
    on_test = table["AlexNet_chosen_on_test_accuracy"].tolist()
    assert on_test == pytest.approx([3 / 4, 1 / 3, 4 / 7, 1 / 6, 5 / 13]), "scores are higher by 1.5"
    assert set(table["AlexNet_learning_rate"]) == {0.001}
    assert set(table["AlexNet_learning_rate_chosen_on_test"]) == {0.0001}


def test_the_other_choice_is_shown_only_where_it_differs(spec, results):
    table = detection_pooled.lines(spec("detection_pooled"), results)
    headers = [(column.group, column.header) for column in detection_pooled.columns(table)]
    assert ("AlexNet", "rate chosen on test") in headers and ("ResNet-18", "rate chosen on test") not in headers


def test_one_rate_leaves_nothing_to_choose(spec, results):
    table = detection_pooled.lines(spec("detection_pooled"), results)
    assert set(table["AlexNet_rates_tried"]) == {2} and "best on the test part" in detection_pooled.reading(table)
    # Overall 9 of 13 are right by the one choice and 5 by the other, for both detectors.
    assert any("would raise the overall accuracy by -0.31 at most" in text for text in detection_pooled.findings(table))
    alone = table.assign(**{f"{name}_rates_tried": 1 for name in DETECTORS})
    assert "one learning rate was tried" in detection_pooled.reading(alone)
    assert not any("would raise" in text for text in detection_pooled.findings(alone))


def test_matrix_by_hand(spec, results):
    table = detection_matrix.lines(spec("detection_matrix"), results)
    assert len(table) == (2 + 2) * 3
    first = table.iloc[0]
    assert (first["detector"], first["trained_on"], first["label"], bool(first["learnt"])) == (
        "AlexNet", "pooled", "CE", True)  # fmt: skip
    assert first["8bit_accuracy"] == 7 / 8 and first["8bit_auc"] == (3 * 4 + 1) / 16
    assert first["l2_median"] == 2
    assert first["jpeg_genuine"] == 0.75 and first["8bit_genuine"] == 1
    jma = table[(table["label"] == "JMA") & (table["trained_on"] == "CE")].iloc[0]
    assert not jma["learnt"] and jma["images"] == 2
    assert (jma["float_accuracy"], jma["float_auc"]) == (0.5, 0.0)
    assert (jma["float_still_at_target"], jma["8bit_still_at_target"]) == (1, 0)
    other = table[(table["label"] == "Logit") & (table["trained_on"] == "CE")].iloc[0]
    assert not other["learnt"], "learnt from by another detector, not by this one"


@pytest.mark.parametrize("kind", ["detection_single", "detection_pooled", "detection_matrix"])
def test_tables_are_written_and_read_back(spec, results, tmp_path, kind):
    write_derived(spec(kind), results, tmp_path / kind)
    table = read_derived(spec(kind), tmp_path / f"{kind}.csv")
    text = (tmp_path / f"{kind}.md").read_text()
    assert "AlexNet" in text and "## What this table says" in text and "nan" not in text
    assert table["images"].between(2, 6).all()


def test_findings_say_what_the_numbers_say(spec, results):
    single = detection_single.findings(detection_single.lines(spec("detection_single"), results))
    assert "CE 0.88 and Logit 0.67" in single[1] and "do not settle the order" in single[1]
    pooled = detection_pooled.findings(detection_pooled.lines(spec("detection_pooled"), results))
    assert "AlexNet 0.69 (0.57, 0.83)" in pooled[0]
    assert "CE 0.75 and Logit 0.33" in pooled[1]
    matrix = detection_matrix.findings(detection_matrix.lines(spec("detection_matrix"), results))
    assert "in 0 of 6 lines" in matrix[0], "no interval of so few images is above 0.50"
    # Seen are CE (13/16) and Logit (1/3), three times each; unseen JMA (0) four times, and each of these two once.
    assert "(mean AUC 0.57) and in 0 of 6 on attacks unseen (mean 0.19)" in matrix[0]
    assert any("on attacks never seen, JMA 0.00" in text for text in matrix)
    assert any(text.startswith("Rounding to 8 bits changes an AUC by 0.000") for text in matrix)


def test_a_matrix_without_rivals_and_without_single_detectors(spec, results, experiment):
    experiment |= {"tested": [], "single": []}
    table = detection_matrix.lines(spec("detection_matrix"), results)
    assert len(table) == 4 and table["learnt"].all()
    assert all(detection_matrix.findings(table))


# The figure.


def test_figure_has_a_panel_for_each_detector_and_group_of_attacks(results, experiment):
    spec = {"name": "detection_roc", "title": "ROC", "kind": "detection_roc", "experiment": experiment}
    figure = detection_figure.draw(spec, results)
    assert len(figure.axes) == 4
    curve = figure.axes[0].lines[1]
    false, true = (np.asarray(values, dtype=float) for values in curve.get_data())
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1) and 0.75 in true
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "0.81 CE" in texts and "0.00 JMA" in texts
    caption = detection_figure.caption(spec, results)
    assert "2 to 4 images of scenes_single" in caption and "never seen" in caption
    del experiment["tested"]
    assert len(detection_figure.draw(spec, results).axes) == 2
    assert "never seen" not in detection_figure.caption(spec, results)


def test_names_below_a_panel_are_short_where_they_stay_different():
    labels = ["JMA (0.2, 40)", "C&W (ours, short budget)", "LOTS (1)", "LOTS (2)"]
    assert detection_figure.short_names(labels) == ["JMA", "C&W", "LOTS (1)", "LOTS (2)"]


def test_more_detectors_than_fit_go_below_each_other(results, experiment):
    spec = {"name": "detection_roc", "title": "ROC", "kind": "detection_roc", "experiment": experiment}
    experiment["detectors"] = [{"name": name} for name in DETECTORS * 3]
    figure = detection_figure.draw(spec, results)
    boxes = [axes.get_position().bounds for axes in figure.axes]
    assert len({round(box[1], 6) for box in boxes}) == 4
    assert all(box[0] + box[2] <= 1 and box[1] >= 0 for box in boxes)


# What is refused.


def test_missing_and_damaged_files_are_named(spec, results, experiment):
    folder = results / "experiments" / "found"
    (folder / "records.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"records\.parquet is damaged"):
        read_detection(results, experiment)
    rewrite_run(folder, {"outputs": {}})
    with pytest.raises(ValueError, match=r"holds no checksum of records\.parquet"):
        read_detection(results, experiment)
    (folder / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match="run the experiment found first"):
        detection_matrix.lines(spec("detection_matrix"), results)


def test_detectors_that_were_not_trained_are_named(spec, results, experiment):
    experiment["single"] = ["ResNet-18"]
    with pytest.raises(ValueError, match="no detector ResNet-18 trained on CE"):
        detection_single.lines(spec("detection_single"), results)
    with pytest.raises(ValueError, match="lacks what ResNet-18 trained on CE says of CE"):
        detection_matrix.lines(spec("detection_matrix"), results)
    experiment["single"] = []
    with pytest.raises(ValueError, match="trains no detector on one attack"):
        detection_single.lines(spec("detection_single"), results)
