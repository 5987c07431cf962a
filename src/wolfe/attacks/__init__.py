"""The attacks, and the one place where their names are known.

An attack is a frozen dataclass of its parameters, called as `attack(classifier, images, targets)`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from wolfe.attacks.base import Attack, AttackResult, Context, Status
from wolfe.attacks.carlini_wagner import CarliniWagner
from wolfe.attacks.ecoc_attack import ECOCAttack
from wolfe.attacks.gradient import GradientAttack
from wolfe.attacks.ifgs import IFGS
from wolfe.attacks.jma import JMA
from wolfe.attacks.jma_refined import RefinedJMA
from wolfe.attacks.lbfgs import LBFGS
from wolfe.attacks.lots import LOTS
from wolfe.attacks.ml_carlini_wagner import MLCarliniWagner
from wolfe.attacks.ml_deepfool import MLDeepFool
from wolfe.attacks.mla_lp import MLALP
from wolfe.attacks.multi_class_optimised import MultiClassOptimised
from wolfe.attacks.over_optimised import OverOptimised
from wolfe.attacks.problem import Observation
from wolfe.attacks.sema_ml import SemAML

ATTACKS: dict[str, type[Attack]] = {
    "jma": JMA,
    "jma_refined": RefinedJMA,
    "carlini_wagner": CarliniWagner,
    "ecoc_attack": ECOCAttack,
    "ml_carlini_wagner": MLCarliniWagner,
    "lots": LOTS,
    "ml_deepfool": MLDeepFool,
    "mla_lp": MLALP,
    "sema_ml": SemAML,
    "gradient": GradientAttack,
    "ifgs": IFGS,
    "lbfgs": LBFGS,
    "over_optimised": OverOptimised,
    "multi_class_optimised": MultiClassOptimised,
}

__all__ = [
    "ATTACKS",
    "IFGS",
    "JMA",
    "LBFGS",
    "LOTS",
    "MLALP",
    "Attack",
    "AttackResult",
    "CarliniWagner",
    "Context",
    "ECOCAttack",
    "GradientAttack",
    "MLCarliniWagner",
    "MLDeepFool",
    "MultiClassOptimised",
    "Observation",
    "OverOptimised",
    "RefinedJMA",
    "SemAML",
    "Status",
    "build",
]


def build(row: dict[str, Any]) -> Attack:
    """Makes the attack of a study's row, e.g. `{"attack": "jma", "step_size": 0.05}`.

    Raises:
        ValueError: an unknown attack or parameter (the message says what is allowed), or a value out of range.
    """
    parameters = dict(row)
    name = parameters.pop("attack", None)
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}: {', '.join(sorted(ATTACKS))}")
    allowed = [field.name for field in dataclasses.fields(ATTACKS[name])]
    for key in parameters:
        if key not in allowed:
            raise ValueError(f"attack {name!r} has no parameter {key!r}: {', '.join(allowed)}")
    _check_types(name, parameters)
    return ATTACKS[name](**parameters)


def _check_types(name: str, parameters: dict[str, Any]) -> None:
    """Refuses a number that should be whole and a word that should be true or false."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(ATTACKS[name])}
    for key, value in parameters.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if kinds[key] == "bool" and not isinstance(value, bool):
            raise ValueError(f"attack {name!r}: {key} must be true or false, got {value!r}")
        if kinds[key] in ("int", "int | None") and not whole and not (value is None and "None" in kinds[key]):
            raise ValueError(f"attack {name!r}: {key} must be a whole number, got {value!r}")
