"""The report page and the drawing of the rule graph."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest

from tests.unit import report_study as study
from wolfe.files import content_checksum, write_json
from wolfe.report.page import write_report
from wolfe.report.rulegraph import draw_rulegraph, layout, read_graph
from wolfe.report.tables import write_table

PUBLISHED = Path(__file__).parents[2] / "config" / "published"
# pydot's parser calls pyparsing by names that pyparsing is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated - use:DeprecationWarning")
DOT = """digraph snakemake_dag {
    graph[bgcolor=white, margin=0];
    node[shape=box, style=rounded, fontname=sans, fontsize=10, penwidth=2];
    edge[penwidth=2, color=grey];
    0[label = "all", color = "0.24 0.6 0.85", style="rounded"];
    1[label = "report"];
    2[label = "table"];
    3[label = "attack_jma_01"];
    4[label = "dataset"];
    5[label = "rulegraph"];
    1 -> 0
    2 -> 1
    5 -> 1
    3 -> 2
    4 -> 3
    4 -> 1
}
"""
MODEL = {"network": {"name": "vgg16", "width": 0.125}, "encoding": {"kind": "one_hot"}}
CODED = {
    "network": {"name": "timm", "architecture": "resnet10t", "channels": [16, 32]},
    "encoding": {"kind": "codebook", "code": "hadamard", "length": 16},
}


class Page(HTMLParser):
    """Tags that must be closed, links to elsewhere and the text of a page."""

    def __init__(self, text) -> None:
        super().__init__()
        self.open, self.sources, self.tags, self.words = [], [], [], []
        self.ids = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids |= {value for name, value in attributes if name == "id"}
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def tables_of_study():
    """Two tables of attacks, sub-tables of a third, and three made from the first."""
    tables = [study.table_spec("jma_04"), study.table_spec("jma_08", multi_label=True)]
    tables += [study.table_spec(name, multi_label=True) for name in ("jma_10a", "jma_10b")]
    ecoc = tables[0]
    own = {key: ecoc[key] for key in ("model", "dataset", "targets", "rule", "encoding", "images")} | {
        "table": "jma_04"
    }
    part = own | {"title": ecoc["title"], "rows": ecoc["rows"][:1]}
    variant = own | {"difference": "nothing kept", "base": ecoc["rows"][0], "variant": study.row("plain", "jma", "JMA")}
    common = {"stands_in": "small pictures for large ones"}
    return [
        *tables,
        common | {"name": "jma_one_step", "title": "One step", "kind": "one_step", "parts": [part]},
        common | {"name": "jma_rank", "title": "The rank", "kind": "jacobian_rank", "parts": [part]},
        common | {"name": "jma_variants", "title": "Variants", "kind": "variants", "rows": [variant]},
    ]


def write_figures(folder):
    """Two pictures, and the geometry that one of them shows."""
    for name in ("jma_01", "jma_02"):
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{name}.png").write_bytes(b"\x89PNG picture")
    point = {"point": [0.0, 1.0], "norm": 0.25, "path": [[-1.0, -1.0]], "reached": True}
    measured = {"outputs": [-1.0, -1.0], "gram": [[1.0, 0.0], [0.0, 1.0]], "signs": [1, 1], "lengths": [0.0]}
    measured |= {"euclidean": point | {"norm": 0.5}, "mahalanobis": point, "labels": ["magenta 1", "green 2"]}
    measured |= {"image_id": "test-00003", "picture": "", "model": "scenes_resnet", "asked": False}
    measured |= {"candidates": {"images": 12, "pairs": 2280, "passed_over": 15}}
    write_json(folder / "geometry" / "jma_01.json", measured | {"sha256": content_checksum(measured)})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The results of a small finished study, made once."""
    folder = tmp_path_factory.mktemp("study")
    rows = folder / "attacks" / "digits_ecoc" / "other_class"
    for table in tables_of_study():
        if "kind" in table:
            write_table(table, folder / "attacks", None, folder / "tables" / table["name"])
            continue
        multi_label = table["encoding"] == "multi_label"
        attacks = folder / "attacks" / table["model"] / table["targets"]
        if not attacks.exists():
            study.write_attacks(folder, table, study.pictures(6, 3 if multi_label else 1, 16))
        if not multi_label:
            study.write_row(rows, "plain", study.pictures(6, 1, 16), False, (1.0, 0.05))
            study.write_trace(rows / "jma-a", {"test-00000": [16, 15]})
        published = PUBLISHED / f"jma_table_{'08' if multi_label else '04'}.csv"
        write_table(table, attacks, published, folder / "tables" / table["name"])
        names = study.LABELS if multi_label else study.CLASSES
        card = {"class_names": names, "image_shape": [1, 16, 16], "counts": {"test": 9, "train": 1077}}
        write_json(folder / "data" / table["dataset"] / "card.json", card | {"provenance": "Drawn <here>."})
        scores = {"exact_match": 0.61, "mAP": 0.912} if multi_label else {"accuracy": 0.9805}
        metrics = {"test": scores, "epochs": 7, "seconds": 61.0, "parameters": 12345, "counts": {"test": 9}}
        write_json(folder / "models" / table["model"] / "metrics.json", metrics)
        write_json(folder / "models" / table["model"] / "run.json", {"versions": study.VERSIONS, "outputs": {}})
    write_figures(folder)
    (folder / "rulegraph.dot").write_text(DOT)
    return folder


@pytest.fixture
def results(made, tmp_path):
    """The spec of the study and a copy of its results."""
    folder = Path(shutil.copytree(made, tmp_path / "results"))
    models = {"digits_ecoc": {"dataset": "digits", **CODED}, "scenes_resnet": {"dataset": "scenes", **MODEL}}
    part = {"table": "jma_04", "rows": None, "image": None, "images": 1}
    scenes = {"table": study.table_spec("jma_08", multi_label=True), "rows": ["jma-a"], "image": None, "images": 2}
    figures = [
        {"name": "jma_01", "title": "The cheapest point", "kind": "geometry", "table": "jma_08", "labels": None},
        {"name": "jma_02", "title": "Attacked images", "kind": "examples", "parts": [part, scenes]},
    ]
    spec = {"study": "embedded", "title": "A study", "models": models, "tables": tables_of_study()} | {
        "figures": figures
    }
    return spec, folder


def write(results):
    spec, folder = results
    write_report(spec, folder, folder / "rulegraph.dot", folder / "report.html")
    return (folder / "report.html").read_text()


def test_page_is_whole_and_needs_nothing_from_elsewhere(results):
    page = Page(write(results))
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in page.sources)
    anchors = {source[1:] for source in page.sources if source.startswith("#")}
    assert {"models", "table-jma_04", "table-jma_08", "figures", "reproduce", "versions", "rules"} <= anchors


def test_page_shows_models_tables_marks_figures_and_versions(results):
    html = write(results)
    text = " ".join(" ".join(Page(html).words).split())
    for expected in (
        "accuracy 0.981",
        "mAP 0.912, exact match 0.610",
        "codebook (hadamard, 16 bits)",
        "resnet10t (channels 16-32)",
        "1 min 1 s",
        "train / test",
        "1,077 / 9",
        "Drawn <here>.",
        "budget cut, not comparable",
        "max_iterations 500 → 20",
        "What this table says",
        "Published",
        "torch 2.13.0",
        "make reproduce",
        "snakemake --cores all table_jma_04",
        "3.14",
        "12,345",
    ):
        assert expected in text
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert "<here>" not in html


def test_contents_link_to_everything_and_sub_tables_stand_together(results):
    page = Page(write(results))
    links = {source[1:] for source in page.sources if source.startswith("#")}
    names = [f"table-{table['name']}" for table in results[0]["tables"]]
    assert {*names, "contents", "tables", "table-10", "figure-jma_01", "figure-jma_02"} <= links
    assert links <= page.ids
    text = " ".join(" ".join(page.words).split())
    assert "Table 10 10a Ten labels flipped 10b Ten labels flipped" in text
    assert "Table 10 : 10a · 10b" in text.replace("10:", "10 :")


def test_page_shows_derived_tables_and_both_kinds_of_figures(results):
    text = " ".join(" ".join(Page(write(results)).words).split())
    for expected in (
        "4 with 16 rows, 3 made from them",
        "9 on 6 images each",
        "They stand in for small pictures for large ones.",
        "done in the first iteration",
        "the rank is not always full in the first iterations",
        "nothing kept",
        "Of 1 differences",
        "A real classifier with two outputs: 'magenta 1' and 'green 2'",
        "15 with a larger factor do not",
        "Table 4: digits, model digits_ecoc",
        "Table 8: scenes, model scenes_resnet",
        "The images are those on which most of these attacks succeed: 2 of 2 reach the target",
    ):
        assert expected in text


def test_page_has_the_same_bytes_each_time(results):
    assert write(results) == write(results)


def test_another_study_is_reproduced_with_its_own_file(results):
    results[0]["study"] = "paper"
    assert "snakemake --cores all --configfile config/paper.yaml" in write(results)


def test_page_without_figures(results):
    results[0]["figures"] = []
    assert 'id="figures"' not in write(results)


@pytest.mark.parametrize(
    "path",
    [
        "tables/jma_04.csv",
        "figures/jma_02.png",
        "geometry/jma_01.json",
        "tables/jma_rank.csv",
        "attacks/digits_ecoc/other_class/plain/records.parquet",
        "models/digits_ecoc/metrics.json",
        "models/digits_ecoc/run.json",
        "data/scenes/card.json",
        "attacks/digits_ecoc/other_class/lots/records.parquet",
        "rulegraph.dot",
    ],
)
def test_a_missing_file_is_named_and_no_page_is_left(results, path):
    (results[1] / path).unlink()
    with pytest.raises(FileNotFoundError, match=Path(path).name):
        write(results)
    assert not (results[1] / "report.html").exists()


def test_stale_or_truncated_inputs_are_named(results):
    _, folder = results
    table = folder / "tables" / "jma_04.csv"
    kept = table.read_text()
    table.write_text("\n".join(kept.splitlines()[:2]))
    with pytest.raises(ValueError, match=r"jma_04.csv is damaged"):
        write(results)
    (folder / "tables" / "jma_04.run.json").unlink()
    with pytest.raises(ValueError, match=r"jma_04.csv holds other rows than the study"):
        write(results)
    table.write_text(kept[:200])
    with pytest.raises(ValueError, match=r"jma_04.csv"):
        write(results)
    table.write_text(kept)
    write_json(folder / "models" / "digits_ecoc" / "metrics.json", {"test": {}})
    with pytest.raises(ValueError, match=r"metrics.json lacks epochs, seconds"):
        write(results)


def test_changed_metrics_are_refused(results):
    run = {"versions": {}, "outputs": {"metrics.json": "0" * 64}}
    write_json(results[1] / "models" / "digits_ecoc" / "run.json", run)
    with pytest.raises(ValueError, match=r"metrics.json is damaged"):
        write(results)


def test_a_lost_attack_folder_is_named(results):
    shutil.rmtree(results[1] / "attacks" / "scenes_resnet")
    with pytest.raises(FileNotFoundError, match=r"scenes_resnet/flip_bits_10/jma-a/run.json"):
        write(results)


def test_graph_is_read_from_what_snakemake_prints(tmp_path):
    (tmp_path / "graph.dot").write_text("Building DAG of jobs...\n" + DOT)
    graph = read_graph(tmp_path / "graph.dot")
    assert sorted(graph) == ["all", "attack_jma_01", "dataset", "report", "rulegraph", "table"]
    assert ("dataset", "attack_jma_01") in graph.edges


@pytest.mark.parametrize("text", ["", "nothing", DOT[:300], "digraph { a -> b; b -> a }", "digraph { }"])
def test_no_graph_is_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "graph.dot").write_text(text)
    with pytest.raises(ValueError, match=r"graph.dot holds (no graph|a graph that)"):
        read_graph(tmp_path / "graph.dot")


def test_edges_run_downwards_and_boxes_stay_apart():
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "c"), ("e", "c")])
    places = layout(graph)
    assert all(places[tail][1] < places[head][1] for tail, head in graph.edges)
    assert ("a", "c", 1) in places
    layers: dict[float, list[float]] = {}
    for x, y in places.values():
        layers.setdefault(y, []).append(x)
    for xs in layers.values():
        assert all(later - earlier > 0.2 for earlier, later in pairwise(sorted(xs)))


def test_graph_is_svg_in_the_colours_of_the_page(tmp_path):
    (tmp_path / "graph.dot").write_text(DOT)
    svg = draw_rulegraph(tmp_path / "graph.dot")
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    assert "var(--ink)" in svg
    assert "metadata" not in svg
    assert "attack_jma_01" in svg
    assert svg == draw_rulegraph(tmp_path / "graph.dot")
