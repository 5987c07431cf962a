"""What is written down at every step of an attack: one line for an image, a step and a name."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from wolfe.attacks import Observation


class JacobianTrace:
    """Observes the rank of the Jacobian over the iterations (JMA paper, Section VI-D).

    Of every image and step it keeps `jacobian_rank`, and `jacobian_singular_ratio`: the least singular value over
    the largest. The rank is that of `numpy.linalg.matrix_rank` for a Jacobian (n, m) in single precision: singular
    values above the largest times max(n, m) times the spacing of numbers at 1.

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
            for position, value in zip(seen.index.tolist(), values.tolist(), strict=True):
                self._lines.append(
                    {"image_id": self._image_ids[position], "step": seen.step, "name": name, "value": float(value)}
                )

    def frame(self) -> pd.DataFrame:
        """All lines: image_id, step, name, value; sorted by image, step and name."""
        empty = pd.DataFrame({"image_id": [], "step": [], "name": [], "value": []})
        types = {"image_id": "str", "step": "int64", "name": "str", "value": "float64"}
        lines = pd.DataFrame(self._lines) if self._lines else empty
        return lines.astype(types).sort_values(["image_id", "step", "name"], kind="stable", ignore_index=True)


def rank_and_ratio(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Rank (b,) and least over largest singular value (b,) of Jacobians (b, n, *image); 0 where one is 0 or not finite.

    From the eigenvalues of J J' in double precision: n is small, and squaring costs digits that single precision
    did not have.
    """
    flat = jacobian.flatten(2).double()
    usable = flat.isfinite().all(dim=2).all(dim=1)
    flat = torch.where(usable[:, None, None], flat, torch.zeros_like(flat))
    squares = torch.linalg.eigvalsh(flat @ flat.mT).clamp(min=0)
    singular = squares.sqrt()
    largest = singular[:, -1]
    tolerance = largest * max(flat.shape[1:]) * torch.finfo(torch.float32).eps
    rank = (singular > tolerance[:, None]).sum(dim=1)
    ratio = torch.where(largest > 0, singular[:, 0] / largest.clamp(min=1e-300), torch.zeros_like(largest))
    return rank, ratio
