"""The geometry of a target on two outputs: hand-solved linear networks, the file and the drawing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from wolfe.classifier import Classifier
from wolfe.encoding import MultiLabel, OneHot
from wolfe.experiments import geometry
from wolfe.experiments.geometry import effort, effort_ratio, measure, ranked, two_outputs, write_geometry
from wolfe.report.figures import write_figure
from wolfe.report.geometry import draw_geometry, geometry_caption, read_geometry

NAMES = ["cat", "dog", "car"]


def linear_classifier(encoding=None):
    """Two pixels to three outputs; at (0.5, 0.5) they are (-1, -1, 1)."""
    layer = nn.Linear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, 0.0], [8.0, 4.0], [0.0, 4.0]]))
        layer.bias.copy_(torch.tensor([-3.0, -7.0, -1.0]))
    return Classifier(nn.Sequential(nn.Flatten(), layer), encoding or MultiLabel(3)).eval().requires_grad_(False)


class FakeSplit:
    """What is needed of a test split."""

    ids = ("test-0", "test-1")
    class_names = NAMES

    def images(self, indices):
        return torch.tensor([[0.1, 0.9], [0.5, 0.5]]).view(2, 1, 1, 2)[list(indices)]


def write_target_of(image_id, path):
    """A file of targets with one image."""
    pd.DataFrame({"image_id": [image_id], "true_label": [0], "target": [1]}).to_parquet(path)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Arguments of `write_geometry` before the spec."""
    monkeypatch.setattr(geometry, "load_classifier", lambda folder, device: linear_classifier())
    monkeypatch.setattr(geometry, "open_split", lambda folder, split: FakeSplit())
    for name in ("model/weights.safetensors", "data/card.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    write_target_of("test-1", tmp_path / "targets.parquet")
    return tmp_path / "model", tmp_path / "targets.parquet", tmp_path / "data"


@pytest.mark.parametrize(
    ("gram", "ratio"),
    [
        # The move (1, 2) along the first output brings the second across as well: norm 1 against the corner's sqrt(2).
        ([[1.0, 2.0], [2.0, 5.0]], math.sqrt(2)),
        # Neither output takes the other across: the corner costs least.
        ([[1.0, 0.5], [0.5, 1.0]], 1.0),
        # Outputs that move together in everything have no point of their own.
        ([[1.0, 1.0], [1.0, 1.0]], 0.0),
    ],
)
def test_effort_of_the_corner_against_the_least_one(gram, ratio):
    assert effort_ratio(torch.tensor([-1.0, -1.0]).double(), torch.tensor(gram).double()) == pytest.approx(ratio)


def test_effort_is_the_least_norm():
    gram = torch.tensor([[16.0, 32.0], [32.0, 80.0]]).double()
    assert effort(gram, torch.tensor([1.0, 1.0]).double()) == pytest.approx(math.sqrt(2) / 4)


def test_both_points_on_a_linear_network():
    pair = two_outputs(linear_classifier(), (0, 1))
    found = measure(pair, torch.full((1, 1, 1, 2), 0.5))
    assert found["outputs"] == pytest.approx([-1, -1])
    assert found["signs"] == [1, 1]
    assert found["gram"][1] == pytest.approx([32, 80])
    assert found["euclidean"]["point"] == pytest.approx([0, 0], abs=1e-6)
    assert found["euclidean"]["norm"] == pytest.approx(math.sqrt(2) / 4)
    assert found["mahalanobis"]["point"] == pytest.approx([0, 1], abs=1e-4)
    assert found["mahalanobis"]["norm"] == pytest.approx(0.25, rel=1e-4)
    assert found["mahalanobis"]["reached"]
    assert found["mahalanobis"]["path"][10] == pytest.approx([-0.5, 0], abs=1e-4)
    assert found["mahalanobis"]["path"][-1] == pytest.approx([0.3, 1.6], abs=1e-3)


def test_the_network_is_run_on_images_only():
    pair = two_outputs(linear_classifier(), (0, 1))
    found = measure(pair, torch.tensor([0.99, 0.5]).view(1, 1, 1, 2))
    assert found["outputs"] == pytest.approx([0.96, 2.92], abs=1e-5)
    assert found["mahalanobis"]["norm_clipped"] <= found["mahalanobis"]["norm"] + 1e-6
    dark = measure(pair, torch.tensor([0.9, 0.0]).view(1, 1, 1, 2))
    assert min(value for value, _ in dark["euclidean"]["path"]) >= -3


def test_pairs_are_ranked_by_what_the_nearest_point_costs_more():
    choices = ranked(linear_classifier(), ["a"], torch.full((1, 1, 1, 2), 0.5))
    assert [choice.labels for choice in choices] == [(0, 1), (0, 2), (1, 2)]
    assert [choice.ratio for choice in choices] == pytest.approx([math.sqrt(2), 1, 1], rel=1e-5)
    assert ranked(linear_classifier(), ["a"], torch.full((1, 1, 1, 2), 0.5), (0, 2))[0].labels == (0, 2)


def test_what_is_written_is_drawn_with_the_same_bytes(places, tmp_path):
    spec = {"name": "jma_01", "title": "Geometry", "kind": "geometry", "labels": ["cat", "dog"]}
    write_geometry(*places, spec, tmp_path / "geometry.json", "cpu")
    measured = read_geometry(tmp_path / "geometry.json")
    assert (measured["labels"], measured["image_id"], measured["asked"]) == (["cat", "dog"], "test-1", True)
    for name in ("one", "two"):
        write_figure(spec, None, tmp_path / "geometry.json", tmp_path / name)
    for kind in ("pdf", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    table = {"name": "jma_08", "dataset": "scenes", "stands_in": "Small pictures stand in for large ones."}
    caption = geometry_caption({**spec, "table": table}, measured)
    assert "'cat' and 'dog' of model model, image test-1 of scenes" in caption
    assert "0.354, is 1.41 times that of r*, 0.250." in caption
    assert "towards r* it reaches the target" in caption
    assert "asked for in the study" in caption
    assert caption.endswith("Small pictures stand in for large ones.")


def test_without_labels_the_largest_difference_is_taken(places, tmp_path):
    write_geometry(*places, {"name": "jma_01", "title": "Geometry"}, tmp_path / "geometry.json", "cpu")
    measured = read_geometry(tmp_path / "geometry.json")
    ratios = {choice.labels: choice.ratio for choice in ranked(linear_classifier(), ["a"], FakeSplit().images([1]))}
    best = max(ratios, key=lambda labels: ratios[labels])
    assert measured["labels"] == [NAMES[label] for label in best]
    assert measured["candidates"] == {"images": 1, "pairs": 3, "passed_over": 0}


def test_text_of_the_drawing_is_legible_and_names_both_points(places, tmp_path):
    write_geometry(*places, {"name": "a", "title": "A", "labels": ["cat", "dog"]}, tmp_path / "geometry.json", "cpu")
    figure = draw_geometry(read_geometry(tmp_path / "geometry.json"))
    FigureCanvasAgg(figure).draw()
    plane = figure.axes[0]
    texts = [text for text in plane.texts if text.get_text()]
    assert {text.get_text() for text in texts} == {"r*", "r\N{PRIME}", "f(x\N{SUBSCRIPT ZERO})"}
    width, height = figure.canvas.get_width_height()
    for text in [*texts, *figure.legends[0].get_texts()]:
        box = text.get_window_extent()
        assert text.get_fontsize() >= 8
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    # One unit is as long on both axes.
    (left, right), (bottom, top), place = plane.get_xlim(), plane.get_ylim(), plane.get_window_extent()
    assert place.width / (right - left) == pytest.approx(place.height / (top - bottom), rel=1e-6)


def test_wrong_input_is_named(places, tmp_path, monkeypatch):
    out = tmp_path / "geometry.json"
    spec = {"name": "jma_01", "title": "Geometry", "labels": ["cat", "bird"]}
    with pytest.raises(ValueError, match="labels must name two of cat, dog, car; got cat, bird"):
        write_geometry(*places, spec, out, "cpu")
    write_target_of("test-7", places[1])
    with pytest.raises(ValueError, match=r"targets.parquet names no image, or one that the test split lacks"):
        write_geometry(*places, {**spec, "labels": None}, out, "cpu")
    places[1].write_text("nothing")
    with pytest.raises(ValueError, match=r"targets.parquet cannot be read as parquet"):
        write_geometry(*places, {**spec, "labels": None}, out, "cpu")
    monkeypatch.setattr(geometry, "load_classifier", lambda folder, device: linear_classifier(OneHot(3)))
    with pytest.raises(ValueError, match="has no two labels to choose"):
        write_geometry(*places, spec, out, "cpu")
    assert not out.exists()


def test_a_changed_file_is_refused(places, tmp_path):
    path = tmp_path / "geometry.json"
    with pytest.raises(FileNotFoundError, match=r"geometry.json is missing"):
        read_geometry(path)
    write_geometry(*places, {"name": "a", "title": "A", "labels": ["cat", "dog"]}, path, "cpu")
    content = json.loads(Path(path).read_text())
    path.write_text(json.dumps(content | {"outputs": [0.0, 0.0]}))
    with pytest.raises(ValueError, match=r"geometry.json is damaged"):
        read_geometry(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"geometry.json holds no geometry"):
        read_geometry(path)
