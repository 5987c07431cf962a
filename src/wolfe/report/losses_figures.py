"""Draws what four losses do to images step by step (Ozbulak et al. 2020, Figures 1 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from wolfe.report import losses_curves, losses_pictures, losses_setting
from wolfe.report.words import sentence, stands_in


@dataclass(frozen=True)
class _Show:
    """A figure: from its spec and the results to the figure, and to what its caption says of it."""

    draw: Callable[[Mapping[str, Any], Path], Figure]
    words: Callable[[Mapping[str, Any], Path], str]


_SHOWS = {
    "path": _Show(losses_curves.draw_path, losses_curves.path_words),
    "setting": _Show(losses_setting.draw_setting, losses_setting.setting_words),
    "magnitude": _Show(losses_curves.draw_magnitude, losses_curves.magnitude_words),
    "perturbations": _Show(losses_pictures.draw_perturbations, losses_pictures.perturbation_words),
}


def draw(spec: Mapping[str, Any], results: Path) -> Figure:
    """A figure of losses.

    Args:
        spec: the figure, with `show` (path, setting, magnitude or perturbations), `part` (the table of attacks whose
            runs it shows) and, for `setting`, which one.
        results: `results/<study>`.

    Raises:
        FileNotFoundError: a run is missing.
        ValueError: what to show is unknown, a file is damaged, or the table lacks the rows that are shown.
    """
    return _show(spec).draw(spec, results)


def caption(spec: Mapping[str, Any], results: Path) -> str:
    """Its caption: what is shown, of how many images and which network, and what stands in for what."""
    part = spec["part"]
    parts = [
        sentence(str(spec["title"])),
        _show(spec).words(spec, results),
        f"Data set {part['dataset']}, network {part['model']}.",
        stands_in(str(part.get("stands_in") or "")),
    ]
    return " ".join(text for text in parts if text)


def _show(spec: Mapping[str, Any]) -> _Show:
    if spec["show"] not in _SHOWS:
        raise ValueError(f"figure {spec['name']!r} cannot show {spec['show']!r}: it can show {', '.join(_SHOWS)}")
    return _SHOWS[spec["show"]]
