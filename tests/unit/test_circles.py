"""The two-dimensional experiment: the maps against gradients worked out by hand, and what the figure says of them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from wolfe.experiments.circles import maps, write_circles
from wolfe.files import read_json, sha256
from wolfe.report.circles_figure import caption, draw, read_circles

from ..conftest import rewrite_run

SPEC = {"name": "circles", "kind": "circles", "hidden": 16, "points": 120, "noise": 0.05, "factor": 0.5, "grid": 41}
FIGURE = {"name": "losses_6", "title": "Two circles", "kind": "circles", "experiment": SPEC}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    write_circles(SPEC, root, root / "experiments" / "circles", 3, "cpu")
    return root


def affine(weight):
    net = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weight))
    return net.requires_grad_(False)


def test_lengths_of_an_affine_network_by_hand():
    """Logits 3x and 4y: the logit's gradient is (0, 4), that of the margin (-3, 4), CE's 1 - P times that."""
    grid = maps(affine([[3.0, 0.0], [0.0, 4.0]]), 1.0, 21, torch.device("cpu"))
    softmax = 1 / (1 + np.exp(3 * grid["x"] - 4 * grid["y"]))
    np.testing.assert_allclose(grid["softmax_target"], softmax, atol=1e-6)
    np.testing.assert_allclose(grid["logit"], 4, rtol=1e-6)
    np.testing.assert_allclose(grid["m_logit"], 5, rtol=1e-6)
    np.testing.assert_allclose(grid["cross_entropy"], 5 * (1 - softmax), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(grid["cross_entropy_sign"], math.sqrt(2), rtol=1e-6)
    expected = np.select([softmax <= 0.1, softmax >= 0.9], [1, 3], 2)
    # At the bounds rounding decides.
    clear = (np.abs(softmax - 0.1) > 1e-6) & (np.abs(softmax - 0.9) > 1e-6)
    assert (grid["space"][clear] == expected[clear]).all()
    assert set(grid["space"]) == {1, 2, 3}


def test_in_single_precision_ce_and_its_sign_vanish_far_inside_and_the_logit_does_not():
    """From a gap of 104 on the other class's softmax rounds to 0 and nothing is left of CE."""
    grid = maps(affine([[0.0, -60.0], [0.0, 60.0]]), 1.0, 21, torch.device("cpu"))
    inside = grid[grid["y"] > 0.95]
    assert (inside["cross_entropy"] == 0).all()
    assert (inside["cross_entropy_sign"] == 0).all()
    assert (inside["logit"] == 60).all()
    fading = grid[(grid["y"] > 0.25) & (grid["y"] < 0.75)]
    assert ((fading["cross_entropy"] > 0) & (fading["cross_entropy"] < 1e-6)).all()


def test_the_network_learns_the_circles_and_its_maps_are_as_the_theorem_says(results):
    grid, points, run = read_circles(results / "experiments" / "circles")
    assert run["accuracy"] >= 0.98
    assert (len(points), run["images"], len(grid)) == (120, 120, 41 * 41)
    assert run["accuracy"] == (points["label"] == points["decision"]).mean()
    radius = np.hypot(points["x"], points["y"])
    assert radius[points["label"] == 1].max() < radius[points["label"] == 0].min()
    first, third = grid[grid["space"] == 1], grid[grid["space"] == 3]
    # With two classes CE is 1 - P times the gradient of the margin, everywhere.
    margin = (1 - grid["softmax_target"]) * grid["m_logit"]
    np.testing.assert_allclose(grid["cross_entropy"], margin, rtol=1e-3, atol=1e-4)
    assert third["cross_entropy"].max() <= 0.101 * third["m_logit"].max()
    assert (first["cross_entropy"] >= 0.899 * first["m_logit"]).all()
    assert set(run["outputs"]) == {"records.parquet", "points.parquet"}


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(results, tmp_path):
    first = pd.read_parquet(results / "experiments" / "circles" / "records.parquet")
    state = torch.get_rng_state()
    write_circles(SPEC, tmp_path, tmp_path / "again", 3, "cpu")
    assert torch.equal(state, torch.get_rng_state())
    pd.testing.assert_frame_equal(first, pd.read_parquet(tmp_path / "again" / "records.parquet"))
    write_circles(SPEC, tmp_path, tmp_path / "other", 4, "cpu")
    assert not first["logit"].equals(pd.read_parquet(tmp_path / "other" / "records.parquet")["logit"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 0}, "hidden must be a whole number, at least 1, got 0"),
        ({"points": 10.5}, "points must be a whole number"),
        ({"grid": 3}, "grid must be a whole number, at least 16"),
        ({"factor": 1.0}, "factor must be between 0 and 1"),
        ({"noise": -0.1}, "noise must be 0 or above"),
    ],
)
def test_options_out_of_range_are_refused_before_the_work(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_circles(SPEC | change, tmp_path, tmp_path / "out", 0, "cpu")
    assert not (tmp_path / "out").exists()


def test_the_figure_has_four_maps_and_says_what_is_in_them(results):
    figure = draw(FIGURE, results)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[1:5] == ["(b) CE", "(c) CE-sign", "(d) Logit", "(e) M-logit"]
    grid, _, _ = read_circles(results / "experiments" / "circles")
    third = grid[grid["space"] == 3]
    text = caption(FIGURE, results)
    assert text.startswith("Two circles. 120 points on two circles (noise 0.05, radii 1 and 0.5)")
    below = (third["cross_entropy"] < 1e-6).mean()
    assert f"below 1.0e-6 at {f'{100 * below:.1f} %' if 0 < below < 1 else f'{100 * below:.0f} %'} of them" in text
    assert "16 hidden neurons" in text


def test_a_network_that_is_never_sure_is_said_to_be_so(results, tmp_path):
    folder = tmp_path / "experiments" / "circles"
    write_circles(SPEC, tmp_path, folder, 3, "cpu")
    grid = maps(affine([[0.0, 0.1], [0.1, 0.0]]), 1.0, 17, torch.device("cpu"))
    _replace(folder, grid)
    assert "nowhere certain" in caption(FIGURE, tmp_path)
    draw(FIGURE, tmp_path)


def _replace(folder, grid):
    grid.to_parquet(folder / "records.parquet", index=False)
    run = read_json(folder / "run.json")
    run["outputs"]["records.parquet"] = sha256(folder / "records.parquet")
    rewrite_run(folder, run)


def test_missing_and_damaged_files_are_named(results, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run\.json is missing: run this experiment first"):
        draw(FIGURE, tmp_path)
    folder = tmp_path / "experiments" / "circles"
    write_circles(SPEC, tmp_path, folder, 3, "cpu")
    (folder / "points.parquet").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"points\.parquet is damaged"):
        caption(FIGURE, tmp_path)
