"""A classifier's verdicts on images that were attacked on another one, and the noise that they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from wolfe.encoding import Encoding
from wolfe.seeding import numpy_generator


def judged(encoding: Encoding, records: pd.DataFrame, clean: Tensor, seen: Mapping[str, Tensor]) -> pd.DataFrame:
    """A classifier's verdicts on attacked images.

    Bits are those of this classifier: labels, or the bits of its own code; a one-hot classifier has none (0).

    Args:
        encoding: of the classifier that is asked.
        records: one line an image with `true_label` and `target`.
        clean: its logits (B, n) before the attack.
        seen: its logits (B, n) after it, by kind of image: "" as it is, "_8bit" rounded, "_shuffled" the control.

    Returns:
        One line an image: `decided_rightly` and `already_there` (before the attack: at the true label, at the
        target), `bits_total`, `bits_asked` (that differ between its clean decision's bits and the target's), and for
        each kind of image, whose name ends the column's, `prediction`, `targeted` (at the target in full),
        `untargeted` (not at the true label), `bits_reached` (of those asked, like the target's) and `bits_changed`.
    """
    labels, targets = _labels(records["true_label"]), _labels(records["target"])
    before, wanted = encoding.bits(clean), encoding.target_bits(targets)
    asked = before != wanted
    verdicts: dict[str, Any] = {
        "decided_rightly": encoding.reached(clean, labels).tolist(),
        "already_there": encoding.reached(clean, targets).tolist(),
        "bits_total": encoding.size * encoding.bitwise,
        "bits_asked": _counted(encoding, asked),
    }
    for kind, logits in seen.items():
        bits = encoding.bits(logits)
        verdicts |= {
            f"prediction{kind}": encoding.decide(logits).tolist(),
            f"targeted{kind}": encoding.reached(logits, targets).tolist(),
            f"untargeted{kind}": (~encoding.reached(logits, labels)).tolist(),
            f"bits_reached{kind}": _counted(encoding, asked & (bits == wanted)),
            f"bits_changed{kind}": _counted(encoding, bits != before),
        }
    return pd.DataFrame(verdicts)


def _counted(encoding: Encoding, bits: Tensor) -> list[int]:
    """How many of an image's bits (B, n) are on; 0 where an encoding has no bits of its own."""
    return (bits.sum(dim=1) * encoding.bitwise).tolist()


def _labels(column: pd.Series) -> Tensor:
    """Labels (B,) or (B, n) of a column of records."""
    return torch.from_numpy(np.stack([np.asarray(value, dtype=np.int64) for value in column]))


def shuffled(before: Tensor, after: Tensor, names: Sequence[str]) -> Tensor:
    """A control: noise with the values of each perturbation, and so of its size, but in random places.

    Args:
        before: the original images (B, C, H, W) in [0, 1].
        after: the attacked ones.
        names: of the images; the draw depends on nothing else.

    Returns:
        Images (B, C, H, W), clipped to [0, 1].
    """
    images = []
    for image, perturbation, name in zip(before, after - before, names, strict=True):
        order = numpy_generator(0, "shuffled perturbation", name).permutation(perturbation.numel())
        images.append(image + perturbation.flatten()[order].view_as(image))
    return torch.stack(images).clamp(0, 1)
