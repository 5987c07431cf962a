"""A first run of what is to be measured."""

from __future__ import annotations

from benchmarks.problems import Case
from wolfe.attacks import Attack, Context


def runs(name: str, attack: Attack, case: Case, notes: list[str], context: Context | None = None) -> bool:
    """Runs an attack once; one that fails is left out with a note, so that it costs its own rows alone."""
    try:
        attack(case.classifier, case.images, case.targets, context=context)
    except RuntimeError as error:
        notes.append(f"Failed: {name}, {case.name} ({' '.join(str(error).split())[:160]}).")
        return False
    except ModuleNotFoundError as error:
        notes.append(f"Not run: {name} ({error}).")
        return False
    return True
