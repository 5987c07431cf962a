"""What is written down at every step of an attack: one line for an image, a step and a name."""

from __future__ import annotations

import pandas as pd
import torch

from wolfe.attacks import Observation
from wolfe.linear.rank import rank_and_ratio


class JacobianTrace:
    """Observes the rank of the Jacobian over the iterations (JMA paper, Section VI-D).

    Of every image and step it keeps `jacobian_rank`, and `jacobian_singular_ratio`: the least singular value over
    the largest. The rank counts the singular values that rounding in single precision cannot have made: those above
    the largest times sqrt(n) times `linear.rank.ROUNDING`, for n outputs.

    Args:
        image_ids: names of the batch's images.
    """

    def __init__(self, image_ids: list[str]) -> None:
        self._image_ids = image_ids
        self._lines: list[dict[str, object]] = []

    def __call__(self, seen: Observation) -> None:
        """Takes down one step; steps without a Jacobian leave nothing."""
        if seen.jacobian is None:
            return
        rank, ratio = rank_and_ratio(seen.jacobian)
        for name, values in (("jacobian_rank", rank), ("jacobian_singular_ratio", ratio)):
            steps = torch.as_tensor(seen.step).expand(len(seen.index)).tolist()
            for position, step, value in zip(seen.index.tolist(), steps, values.tolist(), strict=True):
                self._lines.append(
                    {"image_id": self._image_ids[position], "step": step, "name": name, "value": float(value)}
                )

    def frame(self) -> pd.DataFrame:
        """All lines: image_id, step, name, value; sorted by image, step and name."""
        empty = pd.DataFrame({"image_id": [], "step": [], "name": [], "value": []})
        types = {"image_id": "str", "step": "int64", "name": "str", "value": "float64"}
        lines = pd.DataFrame(self._lines) if self._lines else empty
        return lines.astype(types).sort_values(["image_id", "step", "name"], kind="stable", ignore_index=True)
