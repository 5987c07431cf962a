"""What the lines of a detection are called, and which of them belong to one attack; told once for all who read them."""

from __future__ import annotations

import pandas as pd

POOLED = "pooled"
"""What a detector is trained on that learns from all attacks together."""
GENUINE, EXTRA = "genuine", "extra genuine"
"""Versions of an image that nothing was done to, and further images of that kind."""
LEARNT = "8bit"
"""The transform that detectors are trained under; tables show it where they say nothing else."""


def half_and_half(lines: pd.DataFrame, label: str) -> pd.DataFrame:
    """An attack's images and the genuine versions of the same images, from lines of one detector.

    Args:
        lines: with `version` and `image_id`.
        label: of the attack.
    """
    adversarial = lines[lines["version"] == label]
    genuine = lines[(lines["version"] == GENUINE) & lines["image_id"].isin(adversarial["image_id"])]
    return pd.concat([genuine, adversarial])
