"""Which images of a batch have finite values."""

from __future__ import annotations

from torch import Tensor


def all_finite(values: Tensor) -> Tensor:
    """Whether (B,) all values (B, ...) of an image are finite."""
    flat = values.flatten(1)
    # A sum is a single pass and finite for nearly all that are; it may also overflow, so a second look decides.
    finite = flat.sum(dim=1).isfinite()
    doubtful = (~finite).nonzero()[:, 0]
    if len(doubtful):
        finite[doubtful] = flat[doubtful].isfinite().all(dim=1)
    return finite
