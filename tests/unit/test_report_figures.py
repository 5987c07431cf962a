"""Figures: which image and rows they show, honest failures, equal bytes, no text outside or over another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from tests.unit import report_study as study
from wolfe.files import write_json
from wolfe.report import figures
from wolfe.report.drawing import Line, draw_blocks, label_lines, text_width, wrap
from wolfe.report.examples import examples_caption, select_examples, select_parts
from wolfe.report.figures import perturbation_picture, write_figure
from wolfe.report.records import read_row


@pytest.fixture(scope="module", params=[False, True], ids=["grey", "multi-label"])
def made(request, tmp_path_factory):
    """Whether the study is multi-label, its images and the folder of its results, made once."""
    folder, images = tmp_path_factory.mktemp("results"), study.pictures(8, 3 if request.param else 1, 24)
    table = study.table_spec("jma_08" if request.param else "jma_04", request.param)
    study.write_attacks(folder, table, images)
    names = study.LABELS if request.param else study.CLASSES
    write_json(folder / "models" / table["model"] / "classifier.json", {"class_names": names})
    return request.param, images, folder


@pytest.fixture
def scene(made, tmp_path, monkeypatch):
    """A part of a figure, the folders of its results and attacks, and the class names."""
    multi_label, images, folder = made
    table = study.table_spec("jma_08" if multi_label else "jma_04", multi_label)
    results = Path(shutil.copytree(folder, tmp_path / "results"))
    names = study.LABELS if multi_label else study.CLASSES
    monkeypatch.setattr(figures, "open_split", lambda folder, split: study.FakeImages(images, names))
    part = {"table": table, "rows": None, "image": None, "images": 1}
    return part, results, results / "attacks" / table["model"] / table["targets"], names


def figure_spec(*parts: dict[str, Any], **more: Any):
    """A figure of parts."""
    return {"name": "jma_02", "title": "Attacked images", "kind": "examples", "parts": list(parts)} | more


def drawn(results, *parts: dict[str, Any]):
    """The figure, drawn, and its texts."""
    chosen = zip(parts, select_parts(parts, results), strict=True)
    blocks = [block for pair in chosen for block in figures._blocks(*pair, results, len(parts) > 1)]
    figure = draw_blocks(blocks)
    FigureCanvasAgg(figure).draw()
    return figure, figure.texts


def test_pdf_and_png_have_the_same_bytes_each_time(scene, tmp_path):
    part, results, *_ = scene
    for name in ("one", "two"):
        write_figure(figure_spec(part), results, None, tmp_path / name)
    for kind in ("pdf", "png"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert b"CreationDate" not in (tmp_path / "one.pdf").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width <= 7 * 220 + 1


def successes_of(attacks):
    """How many of the attacks that a figure shows succeed on each image."""
    frames = [read_row(attacks / slug).records.set_index("image_id") for slug in ("jma-a", "rival-ours", "lots")]
    return {name: sum(frame.loc[name, "success"] for frame in frames) for name in frames[0].index}


def test_each_attack_is_shown_by_its_best_row_on_the_most_attacked_image(scene):
    part, _, attacks, _ = scene
    (examples,) = select_examples(part, attacks)
    assert [example.folder.name for example in examples] == ["jma-a", "rival-ours", "lots"]
    wins = successes_of(attacks)
    assert examples[0].record["image_id"] == min(name for name, count in wins.items() if count == max(wins.values()))


def test_several_images_of_a_part_are_the_most_attacked_ones(scene):
    part, _, attacks, _ = scene
    wins = successes_of(attacks)
    best = sorted(wins, key=lambda name: (-wins[name], name))
    shown = [examples[0].record["image_id"] for examples in select_examples({**part, "images": 3}, attacks)]
    assert shown == best[:3]
    asked = {**part, "image": best[-1], "images": 2}
    assert [one[0].record["image_id"] for one in select_examples(asked, attacks)] == [best[-1], best[0]]
    with pytest.raises(ValueError, match="has 8 images, but a figure asks for 9"):
        select_examples({**part, "images": 9}, attacks)


def test_parts_with_the_same_data_show_different_images(scene):
    part, results, *_ = scene
    first, second = select_parts([part, part], results)
    alone = select_parts([part, {**part, "table": {**part["table"], "dataset": "other"}}], results)
    assert first[0][0].record["image_id"] != second[0][0].record["image_id"]
    assert alone[1][0][0].record["image_id"] == first[0][0].record["image_id"]


def test_rows_and_image_can_be_named(scene):
    part, _, attacks, _ = scene
    (examples,) = select_examples({**part, "rows": ["rival-cut", "jma-a"], "image": "test-00003"}, attacks)
    assert [example.folder.name for example in examples] == ["rival-cut", "jma-a"]
    assert {example.record["image_id"] for example in examples} == {"test-00003"}
    with pytest.raises(ValueError, match="no row 'nobody'"):
        select_examples({**part, "rows": ["nobody"]}, attacks)
    with pytest.raises(ValueError, match=r"records.parquet holds no image 'test-99999'"):
        select_examples({**part, "image": "test-99999"}, attacks)


def test_failures_are_shown_as_such(scene):
    part, results, attacks, names = scene
    _, texts = drawn(results, {**part, "rows": ["rival-cut", "jma-a"], "image": "test-00001"})
    shown = [text.get_text() for text in texts]
    assert "failed: exhausted" in " ".join(shown)
    assert "budget cut" in shown
    named = {**part, "rows": ["rival-cut", "jma-a"]}
    caption = examples_caption(figure_spec(named), [select_examples(named, attacks)], [names])
    assert "1 of 2 reach the target. Small pictures stand in for large ones. Below" in caption


@pytest.mark.parametrize("images", [1, 2])
def test_text_is_legible_inside_the_figure_and_never_overlaps(scene, images):
    part, results, *_ = scene
    named = {**part, "rows": ["jma-a", "rival-cut", "rival-ours", "lots", "jma-a"], "images": images}
    figure, texts = drawn(results, named, {**part, "rows": ["jma-a"], "images": images})
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


def test_more_than_seven_panels_go_on_below(scene):
    part, results, *_ = scene
    figure, _ = drawn(results, {**part, "rows": ["jma-a"] * 7})
    assert len(figure.axes) == 15
    assert len({round(axes.get_position().y0, 4) for axes in figure.axes}) == 4


def test_parts_stand_below_each_other_under_their_headings(scene):
    part, results, *_ = scene
    table = part["table"]
    figure, texts = drawn(results, {**part, "rows": ["jma-a"], "images": 2}, {**part, "rows": ["jma-a", "lots"]})
    shown = " ".join(text.get_text() for text in texts)
    number = table["name"][-1]
    assert shown.count(f"Table {number}: {table['title']} ({table['dataset']}, {table['model']})") == 2
    # Two images under one attack each beside each other, then one image under two.
    pictures = [axes.get_position() for axes in figure.axes]
    assert len(pictures) == 4 + 2 + 3 + 2
    assert min(place.y0 for place in pictures[:6]) > max(place.y1 for place in pictures[6:])
    assert "Table" not in " ".join(text.get_text() for text in drawn(results, part)[1])


def test_two_images_that_do_not_fit_beside_each_other_stand_below(scene):
    part, results, *_ = scene
    figure, _ = drawn(results, {**part, "images": 2})
    originals = [figure.axes[number].get_position() for number in (0, 7)]
    assert originals[0].x0 == pytest.approx(originals[1].x0)
    assert originals[0].y0 > originals[1].y1


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
    part, results, _, names = scene
    spec, out = figure_spec(part), tmp_path / "figure"
    description = results / "models" / part["table"]["model"] / "classifier.json"
    write_json(description, {"class_names": ["cat"]})
    with pytest.raises(ValueError, match=r"classifier.json names other classes"):
        write_figure(spec, results, None, out)
    write_json(description, {"class_names": names})
    others = study.pictures(8, 3 if len(names) == 20 else 1, 24, seed=5)
    monkeypatch.setattr(figures, "open_split", lambda folder, split: study.FakeImages(others, names))
    with pytest.raises(ValueError, match="the attacks were run on other data"):
        write_figure(spec, results, None, out)
    monkeypatch.setattr(figures, "open_split", lambda folder, split: study.FakeImages(others[:0], names))
    with pytest.raises(ValueError, match="holds no image"):
        write_figure(spec, results, None, out)
    assert not out.with_suffix(".pdf").exists()


def test_a_figure_of_an_unknown_kind_or_without_its_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown kind 'drawing'; there are examples, geometry"):
        write_figure(figure_spec(kind="drawing"), tmp_path, None, tmp_path / "figure")
    with pytest.raises(ValueError, match="the kind 'geometry' needs --geometry"):
        write_figure(figure_spec(kind="geometry"), tmp_path, None, tmp_path / "figure")
    with pytest.raises(ValueError, match="the kind 'examples' needs --results"):
        write_figure(figure_spec(), None, None, tmp_path / "figure")


def test_damaged_images_are_named(scene):
    part, _, attacks, _ = scene
    example = select_examples(part, attacks)[0][0]
    (example.folder / "adversarials.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"adversarials.safetensors is no readable safetensors"):
        example.adversarial()
