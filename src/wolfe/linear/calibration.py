"""How products with a Jacobian are worked out, and what they cost: the same everywhere, or measured for a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch

Push = Literal["forward", "double_backward"]
_DEVICES = ("any", "cpu", "cuda")


@dataclass(frozen=True)
class Calibration:
    """A choice between equal ways to products with a Jacobian; results differ in their last digits alone.

    Attributes:
        device: the kind of device that it was measured on, "cpu" or "cuda"; "any" for a rule that is not measured.
        torch: the version of torch that it was measured with, empty for a rule that is not measured.
        together: values of images that one vectorised backward pass may see, at least 1.
        vectorised_from: how many rows must go together for a vectorised pass, at least 1; None for one pass a row.
        push: the first way to a Jacobian-vector product; the other is taken where a layer does not have it.
        push_cost: what it costs in rows, vector-Jacobian products worked out together; above 0.

    Raises:
        ValueError: an attribute is outside of its range; the message names it.
    """

    device: str
    torch: str
    together: int
    vectorised_from: int | None
    push: Push
    push_cost: float

    def __post_init__(self) -> None:
        rows = 1 if self.vectorised_from is None else self.vectorised_from
        numbers = {"together": self.together, "vectorised_from": rows}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"calibration: {name} must be a whole number from 1 on, got {getattr(self, name)!r}")
        for name, allowed in (("device", _DEVICES), ("push", get_args(Push))):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"calibration: {name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        cost = self.push_cost
        if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 < cost < math.inf:
            raise ValueError(f"calibration: push_cost must be a number above 0, got {cost!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """The calibration of plain values.

        Raises:
            ValueError: an entry is missing, unknown or outside of its range.
        """
        names = {part.name for part in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise ValueError(f"calibration: the entries must be {', '.join(sorted(names))}, got {values!r}")
        return cls(**values)


# Few images at a time are mostly overhead, which one pass for many rows pays once; for many images a pass for each row
# is as fast and needs less memory (measured on one core, networks of 0.1 to 1 million parameters). A forward derivative
# took the time of 2.8 to 4.5 rows in four networks on one core.
FIXED = Calibration("any", "", together=1 << 20, vectorised_from=4, push="forward", push_cost=3.0)


def in_force(calibration: Calibration | None, device: torch.device) -> Calibration:
    """The calibration where it was measured on this kind of device, else the fixed rule."""
    if calibration is None or calibration.device not in ("any", device.type):
        return FIXED
    return calibration
