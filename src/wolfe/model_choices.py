"""What a model may be, told once for a study's checks, which do without torch, and for those of the training."""

from __future__ import annotations

from typing import Any

LOSSES = {
    "one_hot": ("cross_entropy",),
    "codebook": ("hinge",),
    "multi_label": ("binary_cross_entropy", "hinge", "categorical_hinge", "asymmetric"),
}
"""Encodings and the losses that they are trained with, each encoding's own first."""

AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "vgg16": {"width": 1},
    "vgg16_ensemble": {"width": 1},
    "inception_v3": {"width": 1, "blocks": [3, 4, 2], "small_images": False},
}
"""Networks and the options that their published weights need; one that is left out has this value."""
