"""The figures of losses: what is drawn is what was noted, and captions say it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from safetensors.numpy import save_file

from wolfe.files import write_json
from wolfe.metrics import distortion
from wolfe.report import losses_pictures
from wolfe.report.losses_figures import caption, draw
from wolfe.report.losses_runs import LOSSES, SETTINGS

from .report_study import FakeImages, pictures, write_run
from .test_losses import STEPS, part_of, row, way, write_way

ROWS = [row(loss, setting) for setting in SETTINGS for loss in LOSSES]
IFGS = {"label": "IFGS", "slug": "ifgs", "attack": "ifgs", "parameters": {"max_iterations": STEPS}}
CLASSES = ["zero", "one", *map(str, range(2, 10))]


def figure_of(show, rows=(*ROWS, IFGS), **more: object):
    part = part_of(list(rows))
    return {"name": "losses_1", "title": "A title", "kind": "losses", "show": show, "part": part} | more


@pytest.fixture
def results(tmp_path):
    """Four images: under CE the gradient vanishes at step 7, under Logit one image never changes."""
    for number, one in enumerate((*ROWS, IFGS)):
        first = 2 + number % 4
        ways = [way(first + image, l2=(1 + number % 4) * 0.1 * np.arange(STEPS + 1)) for image in range(4)]
        if one["slug"].startswith("cross_entropy-"):
            ways = [way(2, made=7, gradient_magnitude=[2.0, 1, 0.5, 0.1, 1e-3, 1e-5, 1e-9, 0]) for _ in range(4)]
        if one["slug"].startswith("logit"):
            ways[3] = way(None)
        write_way(tmp_path, one, ways)
    write_json(tmp_path / "models" / "net" / "classifier.json", {"class_names": CLASSES})
    return tmp_path


def titled(figure, title):
    (axes,) = [one for one in figure.axes if one.get_title() == title]
    return axes


def test_the_path_shows_means_and_the_share_of_images_in_each_sub_space(results):
    figure = draw(figure_of("path"), results)
    left, right = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in left.get_lines()}
    # IFGS is the ninth row: its images change at steps 2, 3, 4 and 5.
    reached = (np.arange(STEPS + 1)[None] >= np.array([[2], [3], [4], [5]])).mean(axis=0)
    np.testing.assert_allclose(lines["target class"], 0.02 + 0.95 * reached)
    np.testing.assert_allclose(right.get_lines()[0].get_ydata(), reached)
    assert [text.get_text() for text in left.texts] == ["S1", "S2", "S3"]
    text = caption(figure_of("path"), results)
    assert "4 images under IFGS, 10 steps" in text
    assert "4 images are in S1, after the last one 4 in S3" in text
    assert text.endswith("Data set pictures, network net. They stand in for small pictures.")


def test_without_ifgs_the_path_is_that_of_the_sign(results):
    assert "4 images under CE-sign at equal perturbation" in caption(figure_of("path", ROWS), results)
    with pytest.raises(ValueError, match="has neither IFGS nor CE-sign"):
        draw(figure_of("path", ROWS[:1]), results)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_shows_both_classes_and_the_distances_at_the_first_change(results, setting):
    spec = figure_of("setting", setting=setting)
    figure = draw(spec, results)
    logit = titled(figure, "Logit")
    initial, target = (line.get_ydata() for line in logit.get_lines()[:2])
    np.testing.assert_allclose(initial + target, 0.99)
    # Dotted is the mean first change of the three images that change: 4, 5 and 6.
    np.testing.assert_allclose(logit.get_lines()[2].get_xdata(), 5)
    far = titled(figure, "(c) L2 at the first change")
    assert [label.get_text() for label in far.get_xticklabels()][2:] == ["Logit\n3 of 4", "M-logit\n4 of 4"]
    medians = [line.get_ydata()[0] for line in far.get_lines() if len(set(line.get_ydata())) == 1]
    assert any(np.isclose(value, 0.3 * 5) for value in medians)
    text = caption(spec, results)
    assert f"4 images, {SETTINGS[setting]}, 10 steps" in text
    assert "Logit 1.50 and 0.0500" in text


def test_a_loss_that_changes_nothing_leaves_an_empty_box(results):
    write_way(results, row("logit"), [way(None)] * 4)
    spec = figure_of("setting", setting="equal_perturbation")
    labels = titled(draw(spec, results), "(c) Linf at the first change").get_xticklabels()
    assert labels[2].get_text() == "Logit\n0 of 4"
    assert "Logit \N{EM DASH} and \N{EM DASH}" in caption(spec, results)


def test_a_setting_that_was_not_run_is_named(results):
    with pytest.raises(
        ValueError, match="has no row with 'equal_multiplier' and stop_at_success false; it has equal_pert"
    ):
        draw(figure_of("setting", ROWS[4:], setting="equal_multiplier"), results)


def test_lengths_of_gradients_and_where_they_are_zero(results):
    figure = draw(figure_of("magnitude"), results)
    left, right = figure.axes
    assert left.get_yscale() == "log"
    lengths, zeros = left.get_lines()[0].get_ydata(), right.get_lines()[0].get_ydata()
    np.testing.assert_allclose(lengths, [2, 1, 0.5, 0.1, 1e-3, 1e-5, 1e-9, 0, 0, 0, 0])
    np.testing.assert_array_equal(zeros, [0] * 7 + [1] * 4)
    assert "CE 2.00 to 0, CE-sign 2.00 to 2.00" in caption(figure_of("magnitude"), results)
    with pytest.raises(ValueError, match="shows equal multipliers"):
        draw(figure_of("magnitude", ROWS[4:]), results)


@pytest.fixture
def images(results, monkeypatch):
    """Pictures for the runs of equal perturbation; under Logit the first one fails."""
    originals = pictures(4)
    monkeypatch.setattr(losses_pictures, "open_split", lambda *_: FakeImages(originals, CLASSES))
    for number, one in enumerate(ROWS[4:]):
        _with_images(results, one["slug"], originals, 0.01 * (number + 1), failed=0 if number == 2 else None)
    return results, originals


def _with_images(results, slug, originals, size, failed=None):
    folder = results / "attacks" / "net" / "other_class" / slug
    moved = np.clip(originals + size, 0, 1).astype(np.float32)
    records = pd.read_parquet(folder / "records.parquet")
    distances = pd.DataFrame([distortion(a, b) for a, b in zip(originals, moved, strict=True)])
    records[distances.columns] = distances
    records["success"] = records.index != failed
    records.to_parquet(folder / "records.parquet", index=False)
    save_file({"adversarials": moved}, folder / "adversarials.safetensors")
    write_run(folder)


def test_perturbations_are_enlarged_alike_and_of_images_that_all_losses_change(images):
    results, originals = images
    figure = draw(figure_of("perturbations"), results)
    shown = [axes.get_images()[0].get_array() for axes in figure.axes]
    # Two images of an original, four attacked ones and four perturbations; the first image failed under Logit.
    assert len(shown) == 2 * 9
    np.testing.assert_allclose(shown[0], originals[1][0])
    # In the order of drawing each attacked image is followed by its perturbation; 0.04 fits half the scale.
    values = [float(np.median(np.asarray(shown[place]))) for place in (2, 4, 6, 8)]
    np.testing.assert_allclose(values, [0.5 + 12 * 0.01 * k for k in (1, 2, 3, 4)], atol=2e-3)
    assert "test-00001 and test-00002" in caption(figure_of("perturbations"), results)
    assert "after all 10 steps" in caption(figure_of("perturbations"), results)


def test_runs_that_end_at_the_first_change_are_preferred(images):
    results, originals = images
    early = [row(loss, stop_at_success=True) | {"slug": f"{loss}-early"} for loss in LOSSES]
    for number, one in enumerate(early):
        write_way(results, one, [way(2)] * 4)
        _with_images(results, one["slug"], originals, 0.002 * (number + 1))
    spec = figure_of("perturbations", (*ROWS, *early))
    assert "at the first change to the target" in caption(spec, results)
    assert "after all 10 steps" in caption(figure_of("perturbations", (*ROWS, *early[:3])), results)
    draw(spec, results)


def test_what_cannot_be_shown_is_said(images):
    results, _ = images
    with pytest.raises(ValueError, match="cannot show 'all': it can show path, setting, magnitude, perturbations"):
        draw(figure_of("all"), results)
    with pytest.raises(ValueError, match="lacks a loss at equal perturbation"):
        draw(figure_of("perturbations", ROWS[:5]), results)


def test_a_loss_that_does_not_bring_an_image_to_its_target_says_so(images):
    results, _ = images
    for number, one in enumerate(ROWS[4:]):
        folder = results / "attacks" / "net" / "other_class" / one["slug"]
        records = pd.read_parquet(folder / "records.parquet")
        records.assign(success=records.index == number).to_parquet(folder / "records.parquet", index=False)
        write_run(folder)
    figure = draw(figure_of("perturbations"), results)
    shown = [text.get_text() for text in figure.findobj(Text)]
    assert sum("target not reached" in text for text in shown) == 6, "each of two images is reached by one loss of four"
