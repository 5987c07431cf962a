"""The report on softmax: cleaning and aggregation by hand, rankings against other libraries, table and figures."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from wolfe.files import sha256
from wolfe.report import softmax_predictors as predictors
from wolfe.report.concordance import drawn, interval, over_all_steps, within_steps
from wolfe.report.derived import read_derived, write_derived
from wolfe.report.softmax_examples import certain_steps, confidence, falling_steps
from wolfe.report.softmax_figures import caption_curves, caption_examples, draw_curves, draw_examples
from wolfe.report.softmax_records import aggregated, examples_of, first_step, kept, pairs_of, read_softmax

from ..conftest import rewrite_run

MODELS = ["alexnet", "vgg16", "resnet"]


# Cleaning and aggregation.


def test_only_what_transfers_after_the_last_step_is_kept():
    transferred = np.array([[0, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], dtype=bool)
    assert kept(transferred).tolist() == [True, False, False, True]


def test_aggregation_by_hand():
    """Four examples: 0, 2, 1, 2 and 4 of them transfer at steps 0 to 4; steps 1 and 3 are one point."""
    transferred = np.array(
        [[0, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]],
        dtype=bool,
    )
    values = np.array([[1.0, 2, 3, 10, 5], [1, 4, 3, 10, 5], [1, 2, 3, 10, 5], [1, 4, 7, 10, 9]])
    curve = aggregated(transferred, values)
    assert curve.share.tolist() == [0, 25, 50, 100]
    assert curve.mean.tolist() == [1, 4, (3 + 10) / 2, 6]
    spread = 1.96 * 2 / np.sqrt(3) / 2  # of 2, 4, 2, 4: deviation 2 / sqrt(3), over the root of 4 examples
    assert curve.half.tolist() == pytest.approx([0, 1.96 * 2 / 2, (spread + 0) / 2, 1.96 * 2 / 2])


def test_aggregation_of_one_example_and_of_none():
    one = aggregated(np.array([[False, True]]), np.array([[0.5, 0.7]]))
    assert one.share.tolist() == [0, 100]
    assert one.mean.tolist() == [0.5, 0.7]
    assert np.isnan(one.half).all()
    none = aggregated(np.empty((0, 3), dtype=bool), np.empty((0, 3)))
    assert len(none.share) == len(none.mean) == len(none.half) == 0


@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 1000))
def test_aggregation_does_not_depend_on_order(images, steps, seed):
    generator = np.random.default_rng(seed)
    transferred, values = generator.random((images, steps)) < 0.5, generator.normal(size=(images, steps))
    rows, columns = generator.permutation(images), generator.permutation(steps)
    first = aggregated(transferred, values)
    second = aggregated(transferred[rows][:, columns], values[rows][:, columns])
    for name in ("share", "mean", "half"):
        assert np.allclose(getattr(first, name), getattr(second, name), equal_nan=True)
    assert (np.diff(first.share) > 0).all()


def test_first_steps():
    reached = np.array([[False, True, False], [False, False, False], [True, True, True]])
    assert np.array_equal(first_step(reached), [1, np.nan, 0], equal_nan=True)


# Rankings.


def some_examples(seed, images=9, steps=5, values=6):
    """Examples with many equal values, of which some do not count."""
    generator = np.random.default_rng(seed)
    measure = generator.integers(values, size=(images, steps)).astype(float)
    yes = generator.random((images, steps)) < 0.2 + 0.1 * measure
    return measure, yes, generator.random((images, steps)) < 0.8


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_ranks_over_all_steps_are_those_of_other_libraries(seed):
    measure, yes, valid = some_examples(seed)
    assume(0 < yes[valid].sum() < valid.sum() and np.ptp(measure[valid]) > 0)
    draws = drawn(len(yes), "test")
    found = over_all_steps(measure, yes, valid, draws)
    assert found.auc == pytest.approx(roc_auc_score(yes[valid], measure[valid]))
    assert found.correlation == pytest.approx(spearmanr(measure[valid], yes[valid]).statistic)
    higher, lower = measure[valid & yes], measure[valid & ~yes]
    assert found.pairs == len(higher) * len(lower)
    assert found.tied == pytest.approx((higher[:, None] == lower).mean())
    for number in (0, 7, 99):
        weights = np.repeat(draws[number].astype(int), measure.shape[1]).reshape(measure.shape)[valid]
        labels, values = np.repeat(yes[valid], weights), np.repeat(measure[valid], weights)
        if 0 < labels.sum() < len(labels):
            assert found.replicates[number] == pytest.approx(roc_auc_score(labels, values))
        else:
            assert np.isnan(found.replicates[number])


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_ranks_within_steps_pool_the_pairs_of_each(seed):
    measure, yes, valid = some_examples(seed)
    right = pairs = 0.0
    for step in range(measure.shape[1]):
        higher, lower = (measure[chosen[:, step], step] for chosen in (valid & yes, valid & ~yes))
        right += ((higher[:, None] > lower) + 0.5 * (higher[:, None] == lower)).sum()
        pairs += len(higher) * len(lower)
    found = within_steps(measure, yes, valid, drawn(len(yes), "test"))
    assert found.pairs == pairs
    assert found.auc == pytest.approx(right / pairs) if pairs else np.isnan(found.auc)


def test_a_constant_measure_says_nothing_and_has_no_correlation():
    measure, yes, valid = some_examples(1)
    for rank in (within_steps, over_all_steps):
        found = rank(np.ones_like(measure), yes, valid, drawn(len(yes), "test"))
        assert (found.auc, found.tied) == (0.5, 1)
        assert np.isnan(found.correlation)
        assert interval(found.replicates) == (0.5, 0.5)
        none = rank(measure, np.zeros_like(yes), valid, drawn(len(yes), "test"))
        assert np.isnan(none.auc) and np.isnan(none.correlation) and none.pairs == 0
        assert np.isnan(interval(none.replicates)).all()


def test_the_step_ranks_nothing_within_a_step():
    measure, yes, valid = some_examples(2)
    step = np.tile(np.arange(measure.shape[1], dtype=float), (len(measure), 1))
    found = within_steps(step, yes, valid, drawn(len(yes), "test"))
    assert (found.auc, found.tied) == (0.5, 1)
    assert np.isnan(found.correlation)


def test_infinite_distances_rank_last():
    measure = np.array([[1.0], [2.0], [np.inf], [np.inf]])
    yes = np.array([[False], [True], [True], [False]])
    found = over_all_steps(measure, yes, np.ones_like(yes), drawn(4, "test"))
    assert found.auc == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_an_interval_covers_what_images_scatter():
    """Two groups one deviation apart: the AUC is 0.76, and its standard error for 100 images about 0.05."""
    generator = np.random.default_rng(0)
    yes = np.arange(100)[:, None] < 50
    measure = generator.normal(size=(100, 1)) + yes
    low, high = interval(over_all_steps(measure, yes, np.ones_like(yes), drawn(100, "test")).replicates)
    assert low < 0.76 < high
    assert 0.1 < high - low < 0.3


# A finished experiment, made up: ten images, six steps.


def line(kind, source, image, step):
    """Examples reach the target at step 1 and are certain from step 2; image i transfers from step 1 + i // 2 on."""
    two = kind == "multi_class"
    there, over = step >= 1, step >= 1 + image // 2
    odds = 0.5 * step if two else 10 * step
    logit = 4 + (3 if two else 10) * step + 0.1 * image
    target, second, label = 1, 2 if two else -1, 0
    decided = (second if two and step % 2 else target) if there else label
    found = {"kind": kind, "source": source, "image_id": f"test-{image:05d}", "true_label": label, "target": target}
    found |= {"second": second, "step": step, "moved": step > 0, "activation": logit, "highest_class": decided}
    softmax = np.float32(1 / (1 + np.exp(-np.float32(odds))))
    found |= {"activation_2": logit - odds, "activation_3": 1.0, "softmax": softmax, "log_odds": float(odds)}
    found |= {"margin": float(odds), "distance": 0.1 * odds, "l2": 0.2 * step, "linf": 0.02 * step}
    found |= {"float_activation": logit, "float_softmax": softmax}
    for model in MODELS:
        transfers = over and not (model == "alexnet" and image == 9)
        said = decided if model == source else target if transfers else (3 if step == 6 else label)
        found |= {f"prediction_{model}": said, f"float_prediction_{model}": said if step == 6 else -1}
    return found


@pytest.fixture
def results(tmp_path):
    kinds = ("over_optimised", "multi_class")
    lines = [line(k, model, image, step) for k in kinds for model in MODELS for image in range(10) for step in range(7)]
    folder = tmp_path / "experiments" / "study"
    folder.mkdir(parents=True)
    pd.DataFrame(lines).to_parquet(folder / "records.parquet", index=False)
    steps = list(range(7))
    pictures = {f"{k}.{model}": np.full((2, 7, 3, 8, 8), 99, np.uint8) for k in kinds for model in MODELS}
    save_file(pictures, folder / "pictures.safetensors")
    attacks = {
        "over_optimised": {"attack": "over_optimised", "parameters": {"multiplier": 0.15}},
        "multi_class": {
            "attack": "multi_class_optimised",
            "parameters": {"multiplier": 0.1, "smaller_multiplier": 0.05},
        },
    }
    run = {"attacks": attacks, "class_names": ["fox", "radio", "apple", "cup"]}
    run |= {"shown": {"images": ["test-00000", "test-00001"], "steps": steps}}
    outputs = {name: sha256(folder / name) for name in ("records.parquet", "pictures.safetensors")}
    rewrite_run(folder, run | {"outputs": outputs})
    return tmp_path


EXPERIMENT = {"name": "study", "kind": "softmax", "dataset": "photographs", "models": MODELS}
TABLE = {"name": "softmax_predictors", "kind": "softmax_predictors", "title": "Which measure tells", "stands_in": ""}
TABLE |= {"experiments": [EXPERIMENT]}


def test_examples_are_read_as_images_by_steps(results):
    records, _ = read_softmax(results, "study")
    two = examples_of(records, "multi_class", "vgg16", "alexnet")
    assert two.transferred.shape == (10, 7)
    assert two.adversarial.tolist() == [[False] + [True] * 6] * 10
    assert two.transferred[:, 6].tolist() == [True] * 9 + [False]
    assert two.transferred[4].tolist() == [False] * 3 + [True] * 4
    assert two.changed[9].tolist() == [False] * 6 + [True], "another wrong class at the end"
    assert two.transferred_float.tolist() == two.transferred[:, 6].tolist()
    assert two.measures["activation"][3].tolist() == pytest.approx([4.3 + 3 * step for step in range(7)])
    with pytest.raises(ValueError, match="lack multi_class examples of vgg16 for inception"):
        examples_of(records, "multi_class", "vgg16", "inception")
    with pytest.raises(ValueError, match="lack over_optimised examples of resnet"):
        examples_of(
            records.drop(index=records.index[records["source"] == "resnet"][:1]), "over_optimised", "resnet", "vgg16"
        )


def test_numbers_of_a_pair_by_hand(results):
    table = predictors.lines(TABLE, results)
    assert len(table) == 2 * 6 * 6
    assert list(zip(table["table"], table["slug"], strict=True)) == predictors.places(TABLE)
    assert list(table.columns[:2]) == ["table", "slug"]
    found = table[(table["kind"] == "over_optimised") & (table["model"] == "vgg16") & (table["other"] == "alexnet")]
    first = found.iloc[0]
    assert (first["images"], first["steps"], first["transferred"], first["dropped"], first["changed"]) == (
        10,
        6,
        9,
        1,
        10,
    )
    assert (first["certain"], first["certain_step_median"]) == (10, 2)
    assert 0 < first["adversarial"] <= 10
    assert first["adversarial_low"] + first["adversarial_certain"] <= first["adversarial"]
    assert first["certain_transferred"] == 4, "images 0 to 3 transfer by step 2"
    assert (first["kept_below_one"], first["kept_softmax_mean"]) == (0, 1)
    by = found.set_index("measure")
    # At the same step earlier images, whose logits are lower, transfer.
    assert by.loc["activation", "auc_within"] == 0
    assert by.loc["softmax", ["auc_within", "tied_within"]].tolist() == [0.5, 1]
    assert np.isnan(by.loc["softmax", "correlation_within"])
    assert by.loc["activation", "gain_within"] == -0.5
    assert by.loc["step", "auc_all"] > by.loc["softmax", "auc_all"] > 0.5
    # Over all steps margin, distance, step and L2 all rise by the step alone.
    assert by.loc[["margin", "distance", "l2"], "auc_all"].tolist() == [by.loc["step", "auc_all"]] * 3
    pairs = sum((1 + image // 2 <= step) and True for image in range(9) for step in range(1, 7))
    assert by.loc["step", "pairs_all"] == pairs * (60 - pairs)
    two = table[(table["kind"] == "multi_class") & (table["measure"] == "softmax")]
    assert (two["certain"] == 0).all() and two["certain_step_median"].isna().all()
    assert (two["kept_below_one"] == two["transferred"]).all()


def test_the_table_is_written_read_back_and_says_what_holds(results):
    write_derived(TABLE, results, results / "tables" / "softmax_predictors")
    text = (results / "tables" / "softmax_predictors.md").read_text()
    for expected in (
        "over-optimised ones for one class: 0.15; those with two classes for both: 0.05 and 0.1",
        "0.50 [0.50, 0.50]",
        "1 of 10",
        "2.0 (10 of 10)",
        "never",
        "of 30 over-optimised examples 30 reach a softmax of exactly 1",
        "holds for 3 of 3 attacked models here",
        "58 (100 %) have a softmax below 1, 0.95 in the mean. This holds here",
        "with two classes it ends lower, as in the paper",
    ):
        assert expected in text
    table = read_derived(TABLE, results / "tables" / "softmax_predictors.csv")
    pd.testing.assert_frame_equal(table, predictors.lines(TABLE, results), check_dtype=False)
    assert predictors.findings(table) == predictors.findings(predictors.lines(TABLE, results))


def test_findings_where_nothing_transfers_and_nothing_is_certain(results):
    table = predictors.lines(TABLE, results)
    numbers = [name for name in table if name.startswith(("auc_", "gain_", "correlation_", "kept_softmax"))]
    table[numbers], table["certain_step_median"] = np.nan, np.nan
    table = table.assign(transferred=0, transferred_float=0, dropped=10, certain=0, certain_transferred=0)
    text = " ".join(predictors.findings(table.assign(kept_below_one=0, changed=0)))
    assert "no over-optimised example reaches a softmax of exactly 1" in text
    assert "no example transfers after the last step" in text
    assert "nan" not in text


# What is chosen for the figures of examples, and what they say.


def lines_of(softmax, logits, adversarial=None):
    there = adversarial or [True] * len(logits)
    highest = np.where(there, 1, 0)
    numbers = {"softmax": softmax, "activation": logits, "highest_class": highest, "target": 1, "second": -1}
    return pd.DataFrame(numbers)


def test_versions_that_the_softmax_cannot_tell_apart():
    lines = lines_of([1, 0.4, 1, 1, 1, 1], [9.0, 8, 10, 20, 50, 160], [False, True, True, True, True, True])
    assert certain_steps(lines, [1, 2, 3, 4, 5]) == [2, 4, 5], "sqrt(10 * 160) is 40"
    assert certain_steps(lines, [1, 2, 3]) == []


def test_versions_whose_confidence_falls_while_the_logit_rises():
    lines = lines_of([0.9, 0.6, 0.9, 0.7, 0.6, 0.65], [3.0, 5, 6, 7, 4, 30])
    assert falling_steps(lines, [1, 2, 3, 4, 5]) == [2, 3, 5]
    lines = lines_of([0.9, 0.6, 0.9, 0.7, 0.6, 0.65], [6.5, 5, 6, 7, 4, 30])
    assert falling_steps(lines, [1, 2, 3, 4, 5]) == [], "two steps that are stronger than the image as it came"
    lines = lines_of([0.9, 0.6, 0.9, 0.7, 0.6, 0.45], [3.0, 5, 6, 7, 4, 30])
    assert falling_steps(lines, [1, 2, 3, 4, 5]) == [], "half at most is neither class"
    lines = lines_of([0.9, 0.6, 0.9, 0.7, 0.6, 0.65], [3.0, 5, 6, 7, 4, 30])
    assert falling_steps(lines, [1, 4, 5]) == []


def test_a_confidence_is_1_only_where_it_is():
    assert [confidence(value) for value in (1.0, 0.5, 0.994)] == ["1", "0.50", "0.99"]
    assert confidence(float(np.float32(1) - np.float32(2**-24))) == "1 \N{MINUS SIGN} 6e-8"
    assert confidence(0.996) == "1 \N{MINUS SIGN} 4e-3"


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    return found + [axes.get_title() for axes in figure.axes]


def test_figures_of_examples(results):
    spec = {"name": "softmax_1", "title": "One image", "kind": "softmax_examples", "experiment": EXPERIMENT}
    shown = texts(draw_examples(spec | {"which": "over_optimised"}, results))
    assert shown.count("confidence 1") == 3
    assert {"Original", "Step 2", "Step 6", "fox", "radio", "CA1 24.0"} <= set(shown)
    assert not any(text.startswith("CA3") for text in shown)
    text = caption_examples(spec | {"which": "over_optimised"}, results)
    assert "image test-00000 of photographs, attacked on resnet towards radio" in text
    assert "with a softmax of exactly 1 at three of the steps" in text
    # Here the confidence in two classes only rises, so the figure cannot show what the paper's does, and says so.
    both = caption_examples(spec | {"which": "both"}, results)
    assert "towards radio and apple" in both
    assert "none of those whose pictures were kept shows what the paper's does" in both
    assert sum(text.startswith("CA3") for text in texts(draw_examples(spec | {"which": "both"}, results))) == 4


def test_figures_of_curves(results):
    spec = {"name": "softmax_4", "title": "Strength", "kind": "softmax_curves", "experiment": EXPERIMENT}
    figure = draw_curves(spec | {"which": "over_optimised"}, results)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == len(pairs_of(EXPERIMENT)) == 6
    assert "vgg16 \N{RIGHTWARDS ARROW} alexnet\nover-optimised, 9 of 10 kept" in titles
    curve = figure.axes[0].lines[0]
    assert curve.get_xdata().tolist() == [0, 20, 40, 60, 80, 100]
    assert curve.get_ydata()[0] == pytest.approx(4.45)
    both = spec | {"which": "both", "pairs": [["vgg16", "resnet"]]}
    assert len([axes for axes in draw_curves(both, results).axes if axes.get_title()]) == 2
    text = caption_curves(both, results)
    assert "from vgg16 to resnet" in text
    assert "10 test images of photographs that all of alexnet, vgg16 and resnet classify correctly, 6 steps" in text
    assert "over-optimised: 0.15 and two classes: 0.05 and 0.1" in text


def test_a_panel_without_examples_says_so(results):
    folder = results / "experiments" / "study"
    records = pd.read_parquet(folder / "records.parquet")
    records["prediction_alexnet"] = records["true_label"]
    rewrite(folder, records)
    spec = {"name": "softmax_5", "title": "Strength", "kind": "softmax_curves", "experiment": EXPERIMENT}
    figure = draw_curves(spec | {"which": "multi_class", "pairs": [["vgg16", "alexnet"]]}, results)
    assert any("no example transfers" in text.get_text() for axes in figure.axes for text in axes.texts)
    assert "Fewer than ten examples are left in 1 of 1 panels" in caption_curves(
        spec | {"which": "multi_class", "pairs": [["vgg16", "alexnet"]]}, results
    )


def rewrite(folder, records):
    """Other records, with their checksum."""
    from wolfe.files import read_json

    records.to_parquet(folder / "records.parquet", index=False)
    run = read_json(folder / "run.json")
    run["outputs"]["records.parquet"] = sha256(folder / "records.parquet")
    rewrite_run(folder, run)


def test_damaged_files_are_named(results):
    folder = results / "experiments" / "study"
    with pytest.raises(FileNotFoundError, match=r"run.json is missing: run `wolfe experiment` first"):
        read_softmax(results, "other")
    rewrite(folder, pd.read_parquet(folder / "records.parquet").drop(columns="margin"))
    with pytest.raises(ValueError, match="lacks margin: run this experiment again"):
        read_softmax(results, "study")
    (folder / "records.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match=r"records.parquet is damaged"):
        read_softmax(results, "study")
