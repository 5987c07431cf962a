"""What a targeted attack on a classifier of classes does to an image, step by step."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from wolfe.attacks import Observation

NAMES = (
    "softmax_initial",
    "softmax_target",
    "logit_initial",
    "logit_target",
    "gradient_magnitude",
    "l2",
    "linf",
    "reached",
)
"""What is noted of every image at every step."""


class StepTrace:
    """Observes both classes, the gradient and the perturbation at every step (Ozbulak et al. 2020, Section V-B).

    A step counts how often an image has been observed before: 0 is the image as it came, and for attacks that move
    at each step it is the number of moves so far. Softmax is worked out in the type of the logits, so that it is
    exactly 0 or 1 where the attack sees it so. `gradient_magnitude` is the L2 norm of what the step follows; it is
    NaN where the attack shows none. `l2` and `linf` are distances from the image as it came, in units of [0, 1].
    `reached` is 1 where the decision is the target.

    An image that ends early has no further lines.

    Args:
        image_ids: names of the batch's images.
        starts: the images (B, C, H, W) as they came.
        initial: the classes (B,) that were decided before the attack.
        target: the classes (B,) asked for.

    Raises:
        ValueError: classes are no indices (B,), or the counts differ.
    """

    def __init__(self, image_ids: list[str], starts: Tensor, initial: Tensor, target: Tensor) -> None:
        for name, classes in (("initial", initial), ("target", target)):
            if classes.shape != (len(image_ids),):
                raise ValueError(
                    f"a trace of steps needs a class index for each of {len(image_ids)} images, got {name} classes of "
                    f"shape {tuple(classes.shape)}: label vectors have no single class to follow"
                )
        if len(starts) != len(image_ids):
            raise ValueError(f"a trace of steps of {len(image_ids)} images got {len(starts)} images")
        self._image_ids = image_ids
        self._starts, self._classes = starts, torch.stack([initial, target], dim=1)
        self._seen = np.zeros(len(image_ids), dtype=np.int64)
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []

    def __call__(self, seen: Observation) -> None:
        """Takes down one step."""
        positions = seen.index.cpu().numpy()
        values = torch.stack(self._measured(seen), dim=1).cpu().numpy()
        self._parts.append((positions, self._seen[positions], values))
        self._seen[positions] += 1

    def _measured(self, seen: Observation) -> list[Tensor]:
        """The values (b,) of `NAMES`, in double precision."""
        self._starts = self._starts.to(seen.images)
        self._classes = self._classes.to(seen.index.device)
        classes = self._classes[seen.index]
        softmax = seen.logits.softmax(dim=1).gather(1, classes).double()
        logits = seen.logits.gather(1, classes).double()
        moved = (seen.images - self._starts[seen.index]).flatten(1)
        # Squares of small single-precision values would be 0 long before the values are.
        lengths = torch.full_like(logits[:, 0], torch.nan)
        if seen.gradient is not None:
            lengths = seen.gradient.flatten(1).double().norm(dim=1)
        reached = seen.logits.argmax(dim=1) == classes[:, 1]
        distances = [moved.double().norm(dim=1), moved.abs().amax(dim=1).double()]
        return [*softmax.unbind(dim=1), *logits.unbind(dim=1), lengths, *distances, reached.double()]

    def frame(self) -> pd.DataFrame:
        """All lines: image_id, step, name, value; sorted by image, step and name."""
        names = np.array(sorted(NAMES), dtype=object)
        columns = [NAMES.index(name) for name in names]
        positions = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in self._parts)])
        steps = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in self._parts)])
        values = np.concatenate([np.zeros((0, len(NAMES))), *(part[2] for part in self._parts)])
        ids = np.array(self._image_ids, dtype=object)
        rank = np.empty(len(ids), dtype=np.int64)
        rank[np.argsort(ids, kind="stable")] = np.arange(len(ids))
        order = np.lexsort([steps, rank[positions]])
        lines = {
            "image_id": np.repeat(ids[positions[order]], len(names)),
            "step": np.repeat(steps[order], len(names)),
            "name": np.tile(names, len(order)),
            "value": values[order][:, columns].reshape(-1),
        }
        return pd.DataFrame(lines).astype({"image_id": "str", "step": "int64", "name": "str", "value": "float64"})
