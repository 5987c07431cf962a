"""Draws the graph of the workflow's rules in layers, from its DOT text, without the graphviz programs."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import networkx as nx
import pydot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from wolfe.report.drawing import STYLE, text_width

_LAYER, _HEIGHT, _SPACE, _PADDING = 0.72, 0.34, 0.3, 0.3
# Colours that stand for those of the page, and are replaced by them.
_INK, _EDGE, _BOX = "#010203", "#040506", "#070809"
_ON_PAGE = {_INK: "var(--ink)", _EDGE: "var(--muted)", _BOX: "var(--card)"}


def read_graph(path: Path) -> nx.DiGraph:
    """Reads a directed graph without cycles from DOT text.

    Args:
        path: what `snakemake --rulegraph` prints.

    Returns:
        Nodes named by their labels.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it holds no such graph.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: write it with `snakemake --rulegraph`")
    text = path.read_text(encoding="utf-8")
    start = text.find("digraph")
    # A truncated text makes pydot print where it stopped; the error below says what matters.
    parsed = pydot.graph_from_dot_data(text[start:]) if start >= 0 and text.rstrip().endswith("}") else None
    if not parsed:
        raise ValueError(f"{path} holds no graph in the DOT language: write it again")
    names = {node.get_name(): _plain(node.get("label") or node.get_name()) for node in parsed[0].get_nodes()}
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(names[name] for name in names if name not in ("graph", "node", "edge", '"\\n"'))
    for edge in parsed[0].get_edges():
        tail, head = (names.get(str(end), _plain(end)) for end in (edge.get_source(), edge.get_destination()))
        if tail != head:
            graph.add_edge(tail, head)
    if not len(graph) or not nx.is_directed_acyclic_graph(graph):
        raise ValueError(f"{path} holds a graph that is empty or runs in circles: write it again")
    return graph


def layout(graph: nx.DiGraph) -> dict[Any, tuple[float, float]]:
    """Places nodes in layers, sources on top, so that edges run downwards and cross little.

    Args:
        graph: a directed graph without cycles; a node is as wide as its text.

    Returns:
        Node to (x of its middle, depth of its middle), in inches. Edges that pass layers are given places on the way,
        under keys `(tail, head, layer)`.
    """
    # Generations of the reversed graph put every rule right above the first one that needs it.
    generations = [sorted(layer) for layer in nx.topological_generations(graph.reverse())][::-1]
    depth = {node: number for number, layer in enumerate(generations) for node in layer}
    routed: nx.DiGraph = nx.DiGraph()
    layers: list[list[Any]] = [list(layer) for layer in generations]
    for tail, head in sorted(graph.edges):
        stops = [(tail, head, number) for number in range(depth[tail] + 1, depth[head])]
        for stop in stops:
            layers[stop[2]].append(stop)
        nx.add_path(routed, [tail, *stops, head])
    routed.add_nodes_from(graph)
    for _ in range(8):
        for before, layer in pairwise(layers):
            layer.sort(key=lambda node: _middle(node, routed.predecessors(node), before))
        for layer, after in list(pairwise(layers))[::-1]:
            layer.sort(key=lambda node: _middle(node, routed.successors(node), after))
    return {
        node: (x, number * _LAYER)
        for number, layer in enumerate(layers)
        for node, x in zip(layer, _spread(layer), strict=True)
    }


def draw_rulegraph(path: Path) -> str:
    """The rule graph as an SVG element that takes its colours from the page around it.

    Edges that follow from others are left out (what needs the attacks' images also needs the data).

    Args:
        path: DOT text.

    Returns:
        `<svg ...>...</svg>`, the same text for the same graph. It uses the CSS variables ink, muted and card.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it holds no graph.
    """
    graph = nx.transitive_reduction(read_graph(path))
    places = layout(graph)
    with mpl.rc_context(STYLE):
        figure = _figure(graph, places)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(stream.getvalue(), f"Graph of the rules: {', '.join(sorted(graph))}")


def _figure(graph: nx.DiGraph, places: dict[Any, tuple[float, float]]) -> Figure:
    half = {node: _width(node) / 2 for node in places}
    left = min(x - half[node] for node, (x, _) in places.items()) - 0.1
    right = max(x + half[node] for node, (x, _) in places.items()) + 0.1
    bottom = max(y for _, y in places.values()) + _HEIGHT / 2 + 0.1
    figure = Figure(figsize=(right - left, bottom + _HEIGHT / 2 + 0.1))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(left, right), ylim=(bottom, -_HEIGHT / 2 - 0.1))
    axes.axis("off")
    for tail, head in sorted(graph.edges):
        stops = [node for node in places if isinstance(node, tuple) and node[:2] == (tail, head)]
        axes.add_patch(_arrow([places[node] for node in (tail, *stops, head)]))
    for node in sorted(graph):
        x, y = places[node]
        corner = (x - half[node], y - _HEIGHT / 2)
        box = FancyBboxPatch(
            corner, 2 * half[node], _HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", fc=_BOX, ec=_EDGE, lw=0.8
        )
        axes.add_patch(box)
        axes.text(x, y, node, ha="center", va="center", color=_INK)
    return figure


def _arrow(points: list[tuple[float, float]]) -> FancyArrowPatch:
    """A smooth arrow from the lower edge of the first box to the upper edge of the last."""
    (x, y), (last_x, last_y) = points[0], points[-1]
    route = [(x, y + _HEIGHT / 2), *points[1:-1], (last_x, last_y - _HEIGHT / 2)]
    vertices, codes = [route[0]], [Curve.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(route):
        middle = (y0 + y1) / 2
        vertices += [(x0, middle), (x1, middle), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    return FancyArrowPatch(
        path=Curve(vertices, codes), arrowstyle="-|>", mutation_scale=7, color=_EDGE, lw=0.8, shrinkA=0, shrinkB=0
    )


def _middle(node: Any, neighbours: Any, other: list[Any]) -> tuple[float, str]:
    places = [other.index(neighbour) for neighbour in neighbours if neighbour in other]
    return (sum(places) / len(places) / max(len(other) - 1, 1) if places else 0.5, str(node))


def _spread(layer: list[Any]) -> list[float]:
    """The middles of a layer's nodes, side by side around zero."""
    widths = [_width(node) for node in layer]
    total = sum(widths) + _SPACE * (len(layer) - 1)
    starts = [sum(widths[:number]) + _SPACE * number - total / 2 for number in range(len(layer))]
    return [start + width / 2 for start, width in zip(starts, widths, strict=True)]


def _width(node: Any) -> float:
    return 0.02 if isinstance(node, tuple) else text_width(str(node)) + _PADDING


def _for_page(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for colour, variable in _ON_PAGE.items():
        svg = svg.replace(colour, variable)
    width = re.search(r'width="([\d.]+)pt"', svg)
    size = f'style="width:100%;max-width:{float(width[1]) * 1.6:.0f}px;height:auto"' if width else ""
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg {size} role="img" aria-label="{title}"', 1)


def _plain(text: object) -> str:
    return str(text).strip('"').replace("\\n", " ")
