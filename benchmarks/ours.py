"""The attacks and solvers of this package that are compared, as far as the installed version has them."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any

from benchmarks.problems import Case
from wolfe.attacks import ATTACKS, JMA, Attack

NO_LAZY = "Not run: JMA with lazy rows (this version has none)."
NO_REFINED = "Not run: the refined attack (this version has none)."


def jma(solver: str, **parameters: Any) -> JMA | None:
    """JMA with a way to solve its linearised problems, "dense" or "lazy"; None where it has no such way."""
    if "solver" in {field.name for field in fields(JMA)}:
        return JMA(**{"solver": solver, **parameters})
    return JMA(**parameters) if solver == "dense" else None


def refined(max_iterations: int) -> Attack | None:
    """The refined attack with so many linearisations at most; None where there is none."""
    kind: Any = ATTACKS.get("jma_refined")
    if kind is None:
        try:
            kind = import_module("wolfe.attacks.jma_refined").RefinedJMA
        except ModuleNotFoundError:
            return None
    attack: Attack = kind(max_iterations=max_iterations)
    return attack


def runs(name: str, attack: Attack, case: Case, notes: list[str]) -> bool:
    """Runs an attack once; one that fails is left out with a note, so that it costs its own rows alone."""
    try:
        attack(case.classifier, case.images, case.targets)
    except RuntimeError as error:
        notes.append(f"Failed: {name}, {case.name} ({' '.join(str(error).split())[:160]}).")
        return False
    except ModuleNotFoundError as error:
        notes.append(f"Not run: {name} ({error}).")
        return False
    return True


def lazy_solver() -> Any:
    """The solver of linearised problems that asks for rows one by one; None where there is none."""
    try:
        return import_module("wolfe.linear.lazy").lazy_least_norm
    except (ImportError, AttributeError):
        return None
