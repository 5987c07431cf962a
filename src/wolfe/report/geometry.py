"""Draws the geometry of a target on a classifier with two outputs (JMA paper, Figure 1)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wolfe.files import content_checksum, read_json
from wolfe.reading.pictures import read_picture
from wolfe.report.drawing import GREEN, GREY, INK, RED, STYLE
from wolfe.report.words import sentence, significant, stands_in, table_name

_NEEDED = ("outputs", "gram", "signs", "euclidean", "mahalanobis", "labels", "image_id", "picture", "model")
_SIZE = (7.0, 4.5)
_PLANE = (0.095, 0.1, 0.575, 0.88)
_POINTS = (("euclidean", "r\N{PRIME}", RED), ("mahalanobis", "r*", GREEN))


def read_geometry(path: Path) -> dict[str, Any]:
    """Reads what `wolfe geometry` wrote.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it was changed or is something else; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `wolfe geometry` first")
    content = read_json(path)
    if not isinstance(content, dict) or any(name not in content for name in _NEEDED):
        raise ValueError(f"{path} holds no geometry: delete it and run again")
    if content.get("sha256") != content_checksum(content):
        raise ValueError(f"{path} is damaged (its checksum differs from the recorded one): delete it and run again")
    return content


def draw_geometry(measured: Mapping[str, Any]) -> Figure:
    """The plane of the two outputs: region, points, perturbations of equal norm and where the network goes.

    Args:
        measured: see `experiments.geometry.write_geometry`.

    Returns:
        The figure, as wide as a text of two columns.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=_SIZE)
        FigureCanvasAgg(figure)
        axes = figure.add_axes(_PLANE)
        _limits(axes, measured)
        legend: list[Artist] = [_region(axes, measured)]
        for name, label, colour in _POINTS:
            legend += _target_point(axes, measured, name, label, colour)
        legend.append(_distance(axes, measured))
        start = np.asarray(measured["outputs"])
        axes.plot(*start, "o", color=INK, markersize=5, zorder=6)
        _named(axes, start, "f(x\N{SUBSCRIPT ZERO})", INK, away=-np.asarray(measured["signs"]))
        axes.set_xlabel(f"output \N{LEFT DOUBLE QUOTATION MARK}{measured['labels'][0]}\N{RIGHT DOUBLE QUOTATION MARK}")
        axes.set_ylabel(f"output \N{LEFT DOUBLE QUOTATION MARK}{measured['labels'][1]}\N{RIGHT DOUBLE QUOTATION MARK}")
        _picture(figure, measured)
        _legend(figure, legend)
        return figure


def _limits(axes: Axes, measured: Mapping[str, Any]) -> None:
    """Room for the points and the first part of the paths; the ellipses may leave the picture."""
    shown = [measured["outputs"], [0.0, 0.0], *(measured[name]["point"] for name, _, _ in _POINTS)]
    shown += [point for name, _, _ in _POINTS for point in measured[name]["path"]]
    points = np.asarray(shown)
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    inches = np.asarray([_PLANE[2] * _SIZE[0], _PLANE[3] * _SIZE[1]])
    # One unit is as long on both axes, so that what looks nearest is nearest.
    half = 1.3 * (half / inches).max() * inches
    axes.set(xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] - half[1], middle[1] + half[1]))
    axes.set_aspect("equal")


def _region(axes: Axes, measured: Mapping[str, Any]) -> Artist:
    """The quarter of the plane where both labels are flipped, shaded, and the two thresholds."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    sizes = np.asarray(measured["signs"]) * np.asarray([max(abs(left), abs(right)), max(abs(bottom), abs(top))])
    region = axes.add_patch(Rectangle((0, 0), *sizes, color="#dfeee5", linewidth=0, zorder=0, label="target region"))
    for line in (axes.axhline, axes.axvline):
        line(0, color=INK, linewidth=0.9, zorder=1)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return region


def _distance(axes: Axes, measured: Mapping[str, Any]) -> Artist:
    """The circle of the points that are as far from the outputs as r'."""
    start = np.asarray(measured["outputs"])
    circle = start + np.linalg.norm(np.asarray(measured["euclidean"]["point"]) - start) * _unit_ellipse(np.eye(2))
    text = "as far from f(x\N{SUBSCRIPT ZERO}) as r\N{PRIME}"
    return axes.plot(*circle.T, color=GREY, linewidth=0.8, linestyle=":", zorder=2, label=text)[0]


def _unit_ellipse(gram: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Points (k, 2) with d' inv(G) d = 1."""
    values, vectors = np.linalg.eigh(gram)
    angles = np.linspace(0, 2 * np.pi, 361)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    return (vectors @ (np.sqrt(values.clip(min=0))[:, None] * circle)).T


def _target_point(axes: Axes, measured: Mapping[str, Any], name: str, label: str, colour: str) -> list[Artist]:
    """A point of the region, what its norm reaches, the arrow that leads to it and the way that the network takes."""
    found, norm = measured[name], significant(measured[name]["norm"])
    start, point, way = (np.asarray(value) for value in (measured["outputs"], found["point"], found["path"]))
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 3, "shrinkB": 2, "mutation_scale": 10}
    axes.annotate("", xy=tuple(point), xytext=tuple(start), arrowprops=arrow, zorder=4)
    whole = way[int(np.argmin(np.abs(np.asarray(measured["lengths"]) - 1)))]
    # In the region, or beside it where the network's own way ends above or below the point.
    away = np.asarray([measured["signs"][0], 1.0 if point[1] >= whole[1] else -1.0])
    _named(axes, point, label, colour, away=away)
    axes.plot(*whole, "o", color=colour, markersize=4, zorder=5)
    ellipse = start + found["norm"] * _unit_ellipse(np.asarray(measured["gram"]))
    text = f"way of the network; with all of it (dot) it {'reaches' if found['reached'] else 'misses'} the target"
    return [
        *axes.plot(*point, "D", color=colour, markersize=5, zorder=6, label=f"{label}, L2 norm {norm} to first order"),
        *axes.plot(
            *ellipse.T, color=colour, linewidth=0.9, linestyle=(0, (5, 3)), label=f"all that norm {norm} reaches"
        ),
        *axes.plot(*way.T, color=colour, linewidth=2.2, alpha=0.45, zorder=3, label=text, solid_capstyle="round"),
    ]


def _named(axes: Axes, point: NDArray[Any], text: str, colour: str, away: NDArray[Any]) -> None:
    """A name beside a point, on the side where `away` leads."""
    axes.annotate(
        text,
        xy=tuple(point),
        xytext=(6 * float(away[0]), 6 * float(away[1])),
        textcoords="offset points",
        ha="left" if away[0] > 0 else "right",
        va="bottom" if away[1] > 0 else "top",
        color=colour,
        weight="bold",
        size=10,
        zorder=7,
    )


def _picture(figure: Figure, measured: Mapping[str, Any]) -> None:
    """The image itself, on the right."""
    pixels = np.asarray(read_picture(base64.b64decode(measured["picture"]), None, formats=("PNG",)))
    axes = figure.add_axes((0.74, 0.64, 0.2, 0.2 * _SIZE[0] / _SIZE[1] * pixels.shape[0] / pixels.shape[1]))
    axes.imshow(pixels, cmap="gray", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"x\N{SUBSCRIPT ZERO}: {measured['image_id']}", fontsize=8, pad=3)


def _legend(figure: Figure, artists: list[Artist]) -> None:
    figure.legend(
        artists,
        [_broken(str(artist.get_label()), 28) for artist in artists],
        loc="upper left",
        bbox_to_anchor=(0.685, 0.6),
        frameon=False,
        labelspacing=0.5,
    )


def _broken(text: str, width: int) -> str:
    """Text with line breaks between words, so that no line has more than `width` characters."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def geometry_caption(spec: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The figure's caption.

    Args:
        spec: the figure, with its resolved `table`.
        measured: what was measured.
    """
    table = spec["table"]
    norms = [float(measured[name]["norm"]) for name, _, _ in _POINTS]
    first, second = measured["labels"]
    same = "about the same for both" if norms[0] < 1.05 * norms[1] else f"{norms[0] / norms[1]:.2f} times that of r*"
    verdicts = [
        f"towards {label} it {'reaches' if measured[name]['reached'] else 'misses'} the target"
        for name, label, _ in _POINTS
    ]
    return " ".join(
        part
        for part in (
            sentence(str(spec["title"])),
            f"A real classifier with two outputs: '{first}' and '{second}' of model {measured['model']}, image "
            f"{measured['image_id']} of {table['dataset']}; the target flips both labels.",
            "r\N{PRIME} is the point of the target region nearest to the outputs f(x\N{SUBSCRIPT ZERO}), r* the one "
            "that a perturbation reaches with the least L2 norm to first order. Each ellipse holds what perturbations "
            f"of one norm reach; the norm that r\N{PRIME} needs, {significant(norms[0])}, is {same}, "
            f"{significant(norms[1])}.",
            f"Thick lines show where the network itself goes along both perturbations, up to 1.3 times their length: "
            f"with the whole perturbation {' and '.join(verdicts)}.",
            _how_chosen(table, measured),
            stands_in(str(table.get("stands_in") or "")),
        )
        if part
    )


def _how_chosen(table: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    counts = measured["candidates"]
    images = f"the first {counts['images']} images of {table_name(table['name'])}"
    if measured["asked"]:
        text = f"The labels are asked for in the study; the image is the one of {images}"
    else:
        text = f"Image and labels are those of {counts['pairs']:,} ({images} with all pairs of labels)"
    text += " for which these norms differ by the largest factor"
    if not measured["mahalanobis"]["reached"]:
        return f"{text}; of those with the largest factors none reaches the target with the whole perturbation."
    others = f" ({counts['passed_over']} with a larger factor do not)" if counts["passed_over"] else ""
    return f"{text} while the network itself reaches the target with the perturbation to r*{others}."
