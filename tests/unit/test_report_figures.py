"""Figures: which image and rows they show, honest failures, equal bytes, no text outside or over another."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from tests.unit import report_study as study
from wolfe.files import write_json
from wolfe.report import figures
from wolfe.report.drawing import Line, draw, label_lines, text_width, wrap
from wolfe.report.examples import examples_caption, select_examples
from wolfe.report.figures import perturbation_picture, write_examples
from wolfe.report.records import read_row


@pytest.fixture(scope="module", params=[False, True], ids=["grey", "multi-label"])
def made(request, tmp_path_factory):
    """Whether the study is multi-label, its images and its attack rows, made once."""
    table, images = study.table_spec("table", request.param), study.pictures(8, 3 if request.param else 1, 24)
    return request.param, images, study.write_attacks(tmp_path_factory.mktemp("rows"), table, images)


@pytest.fixture
def scene(made, tmp_path, monkeypatch):
    """A figure's spec with its attacks, data and model."""
    multi_label, images, rows = made
    table = study.table_spec("jma_08" if multi_label else "jma_04", multi_label)
    attacks = Path(shutil.copytree(rows, tmp_path / "attacks"))
    names = study.LABELS if multi_label else study.CLASSES
    monkeypatch.setattr(figures, "open_split", lambda folder, split: study.FakeImages(images, names))
    write_json(tmp_path / "model" / "classifier.json", {"class_names": names})
    spec = {"name": "jma_02", "title": "Attacked images", "table": table, "rows": None, "image": None}
    return spec, attacks, tmp_path / "data", tmp_path / "model", names


def texts_of(spec, attacks, data, model):
    """The figure, drawn, and its texts."""
    examples = select_examples(spec, attacks)
    original, names = figures._original(str(examples[0].record["image_id"]), data)
    panels = [figures._original_panel(examples[0], original, names)]
    panels += [figures._attack_panel(example, original, names) for example in examples]
    figure = draw(panels)
    FigureCanvasAgg(figure).draw()
    return figure, figure.texts


def test_pdf_and_png_have_the_same_bytes_each_time(scene, tmp_path):
    spec, attacks, data, model, _ = scene
    for name in ("one", "two"):
        write_examples(spec, attacks, data, model, tmp_path / name)
    for kind in ("pdf", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert b"CreationDate" not in (tmp_path / "one.pdf").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width <= 7 * 220 + 1


def test_each_attack_is_shown_by_its_best_row_on_the_most_attacked_image(scene):
    spec, attacks, *_ = scene
    examples = select_examples(spec, attacks)
    assert [example.folder.name for example in examples] == ["jma-a", "rival-ours", "lots"]
    frames = [read_row(example.folder).records.set_index("image_id") for example in examples]
    wins = {name: sum(frame.loc[name, "success"] for frame in frames) for name in frames[0].index}
    most = max(wins.values())
    assert examples[0].record["image_id"] == min(name for name, count in wins.items() if count == most)


def test_rows_and_image_can_be_named(scene):
    spec, attacks, *_ = scene
    examples = select_examples({**spec, "rows": ["rival-cut", "jma-a"], "image": "test-00003"}, attacks)
    assert [example.folder.name for example in examples] == ["rival-cut", "jma-a"]
    assert {example.record["image_id"] for example in examples} == {"test-00003"}
    with pytest.raises(ValueError, match="no row 'nobody'"):
        select_examples({**spec, "rows": ["nobody"]}, attacks)
    with pytest.raises(ValueError, match=r"records.parquet holds no image 'test-99999'"):
        select_examples({**spec, "image": "test-99999"}, attacks)


def test_failures_are_shown_as_such(scene):
    spec, attacks, data, model, names = scene
    _, texts = texts_of({**spec, "rows": ["rival-cut", "jma-a"], "image": "test-00001"}, attacks, data, model)
    shown = [text.get_text() for text in texts]
    assert "failed: exhausted" in " ".join(shown)
    assert "budget cut" in shown
    examples = select_examples({**spec, "rows": ["rival-cut", "jma-a"]}, attacks)
    caption = examples_caption(spec, examples, names)
    assert "1 of 2 reach the target" in caption


def test_text_is_legible_inside_the_figure_and_never_overlaps(scene):
    spec, attacks, data, model, _ = scene
    rows = ["jma-a", "rival-cut", "rival-ours", "lots", "jma-a"]
    figure, texts = texts_of({**spec, "rows": rows}, attacks, data, model)
    boxes = [text.get_window_extent() for text in texts if text.get_text().strip()]
    pictures = [axes.get_window_extent() for axes in figure.axes]
    assert figure.get_figwidth() <= 7.0
    assert all(text.get_fontsize() >= 8 for text in texts)
    width, height = figure.canvas.get_width_height()
    for number, box in enumerate(boxes):
        assert box.x0 >= -1
        assert box.x1 <= width + 1
        assert box.y0 >= -1
        assert box.y1 <= height + 1
        for other in boxes[number + 1 :] + pictures:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert wide <= 0 or high <= 1.5


def test_more_than_six_panels_go_on_below(scene):
    spec, attacks, data, model, _ = scene
    figure, _ = texts_of({**spec, "rows": ["jma-a"] * 7}, attacks, data, model)
    assert len(figure.axes) == 15
    assert len({round(axes.get_position().y0, 4) for axes in figure.axes}) == 4


def test_perturbation_is_enlarged_around_grey_and_never_cut_off():
    perturbation = np.array([[-0.04, 0.0, 0.02]])
    picture, scale = perturbation_picture(perturbation)
    assert scale == pytest.approx(12)
    assert picture == pytest.approx(0.5 + 12 * perturbation)
    nothing, scale = perturbation_picture(np.zeros((2, 2)))
    assert scale == 1
    assert (nothing == 0.5).all()
    assert perturbation_picture(np.array([0.9]))[1] == pytest.approx(0.55)


def test_label_lists_mark_new_and_lost_labels():
    lines = label_lines([1, 1, 0], [0, 1, 1], ["cat", "dog", "car"])
    assert [line.text for line in lines] == ["\N{MINUS SIGN} cat", "  dog", "+ car"]
    assert label_lines([0, 0], [0, 0], ["cat", "dog"])[0].text == "no label"


def test_wrapped_lines_fit_unless_a_word_does_not():
    lines = wrap(Line("a rather long title with anunusuallylongword", "black", bold=True), 0.8)
    assert " ".join(line.text for line in lines) == "a rather long title with anunusuallylongword"
    assert all(text_width(line.text, bold=True) <= 0.8 for line in lines if " " in line.text)


def test_what_does_not_belong_together_is_refused(scene, tmp_path, monkeypatch):
    spec, attacks, data, model, names = scene
    out = tmp_path / "figure"
    with pytest.raises(ValueError, match="unknown kind 'drawing'"):
        write_examples({**spec, "kind": "drawing"}, attacks, data, model, out)
    write_json(tmp_path / "other" / "classifier.json", {"class_names": ["cat"]})
    with pytest.raises(ValueError, match=r"other/classifier.json names other classes"):
        write_examples(spec, attacks, data, tmp_path / "other", out)
    others = study.pictures(8, 3 if len(names) == 20 else 1, 24, seed=5)
    monkeypatch.setattr(figures, "open_split", lambda folder, split: study.FakeImages(others, names))
    with pytest.raises(ValueError, match="the attacks were run on other data"):
        write_examples(spec, attacks, data, model, out)
    monkeypatch.setattr(figures, "open_split", lambda folder, split: study.FakeImages(others[:0], names))
    with pytest.raises(ValueError, match="holds no image"):
        write_examples(spec, attacks, data, model, out)
    assert not out.with_suffix(".pdf").exists()


def test_damaged_images_are_named(scene):
    spec, attacks, *_ = scene
    example = select_examples(spec, attacks)[0]
    (example.folder / "adversarials.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"adversarials.safetensors is no readable safetensors"):
        example.adversarial()
