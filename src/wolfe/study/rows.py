"""A row of a table: its budget, its effective parameters and the name of its folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wolfe.names import attack_name
from wolfe.study.document import attack_parameters, defaults

Budget = dict[str, Any]
"""`attacks`, and any of `iteration_scale`, `minimum_iterations`, `maximum_search_steps`, `maximum_iterations` (over all
runs) and `images`."""

_ROW_KEYS = frozenset({"attack", "label", "origin", "published", "images"})
_LONGEST_SLUG = 120


def parameters_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of the study asks of its attack, in the schema's order, whole numbers and fractions told apart."""
    entries = attack_parameters(row["attack"])
    return {name: _typed(row[name], entries[name]) for name in entries if name in row and name not in _ROW_KEYS}


def _typed(value: Any, entry: Mapping[str, Any]) -> Any:
    kinds = entry.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return int(value) if "integer" in kinds else float(value)


def canonical(attack: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters without those that have their default value: equal work gives equal dicts."""
    usual = defaults(attack)
    return {name: value for name, value in parameters.items() if name not in usual or usual[name] != value}


def budgets_of(wide: Sequence[Budget], own: Sequence[Budget], attacks: Sequence[str]) -> list[Budget]:
    """The budgets in force for a table: its own, and the study's for the attacks that it says nothing of.

    Args:
        wide: the study's budgets.
        own: the table's budgets.
        attacks: the attacks whose rows may be cut; budgets for others are left out.

    Returns:
        Budgets in which every attack occurs at most once.
    """
    taken = {attack for budget in own for attack in budget["attacks"]}
    rest = [{**budget, "attacks": [name for name in budget["attacks"] if name not in taken]} for budget in wide]
    kept = [{**budget, "attacks": [name for name in budget["attacks"] if name in attacks]} for budget in [*own, *rest]]
    return [budget for budget in kept if budget["attacks"]]


def cut(attack: str, asked: Mapping[str, Any], budgets: Sequence[Budget]) -> dict[str, Any]:
    """The parameters that a budget leaves of those asked for.

    Args:
        attack: the attack's name.
        asked: the row's parameters; those left out have their defaults.
        budgets: see `budgets_of`.

    Returns:
        The same dict where nothing changes, else one with fewer iterations or search steps.
    """
    budget = _budget_of(attack, budgets)
    full = {**defaults(attack), **asked}
    limits = {}
    if "search_steps" in full and "maximum_search_steps" in budget:
        limits["search_steps"] = budget["maximum_search_steps"]
    if "max_iterations" in full:
        least = budget.get("minimum_iterations", 1)
        in_all = budget.get("maximum_iterations", full["max_iterations"] * _runs(full))
        if _runs({**full, **limits}) > in_all:
            limits["search_steps"] = in_all
        scaled = round(full["max_iterations"] * budget.get("iteration_scale", 1.0))
        limits["max_iterations"] = min(in_all // _runs({**full, **limits}), max(least, scaled, 1))
    changed = {name: limit for name, limit in limits.items() if limit < full[name]}
    return {name: value for name, value in ({**asked, **changed}).items() if name in full}


def _runs(parameters: Mapping[str, Any]) -> int:
    """How often an attack makes its iterations: once for every constant that it tries, if it searches for one."""
    return int(parameters["search_steps"]) if "initial_constant" in parameters else 1


def _budget_of(attack: str, budgets: Sequence[Budget]) -> Budget:
    return next((entry for entry in budgets if attack in entry["attacks"]), {})


def resolved_row(row: Mapping[str, Any], budgets: Sequence[Budget], images: int) -> dict[str, Any]:
    """A row of the study with its budget applied.

    Args:
        row: as it stands in the study.
        budgets: see `budgets_of`; a row of origin "ours" is exempt.
        images: how many its table attacks.

    Returns:
        `slug`, `attack`, `label`, `parameters` (in force), `asked` (in the study), `origin`, `cut` (whether the
        two differ), `images` (how many it attacks, the first ones; None for all of the table's) and `published` (the
        row of the published table, or None).
    """
    asked = parameters_of(row)
    origin = row.get("origin", "paper")
    effective = asked if origin == "ours" else cut(row["attack"], asked, budgets)
    allowed = images if origin == "ours" else _budget_of(row["attack"], budgets).get("images", images)
    fewer = min(row.get("images", images), allowed)
    first = fewer if fewer < images else None
    return {
        "slug": slug(row["attack"], effective, first),
        "attack": row["attack"],
        "label": label_of(row),
        "parameters": effective,
        "asked": asked,
        "origin": origin,
        "cut": effective != asked,
        "images": first,
        "published": row.get("published"),
    }


def slug(attack: str, parameters: Mapping[str, Any], images: int | None = None) -> str:
    """A readable folder name that is the same for equal work and different for other work.

    Args:
        attack: the attack's name.
        parameters: its effective parameters.
        images: how many images it attacks, the first ones; None for all.

    Returns:
        Letters, digits, `_`, `-` and `.` only; long ones end in a hash instead of their last parameters.
    """
    distinct = canonical(attack, parameters)
    parts = [f"{name}_{_text(distinct[name])}" for name in attack_parameters(attack) if name in distinct]
    parts += [f"first_{images}"] if images is not None else []
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", "-".join([attack, *parts]))
    if len(name) <= _LONGEST_SLUG:
        return name
    return f"{name[: _LONGEST_SLUG - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def label_of(row: Mapping[str, Any]) -> str:
    """What a table calls a row: its label, or what it is called without one."""
    return str(row.get("label") or default_label(row))


def default_label(row: Mapping[str, Any]) -> str:
    """What a table calls a row that has no label of its own."""
    if row.get("published"):
        return f"{row['published']['attack']} {row['published']['params']}"
    return f"{attack_name(row['attack'])}{' (ours)' if row.get('origin') == 'ours' else ''}"
