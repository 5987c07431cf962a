"""Scores between 0 and 1 for every bit of an output, for the attacks that work on scores and not on logits."""

from __future__ import annotations

from torch import Tensor

from wolfe.encoding import Encoding

# Above the rounding errors of a forward pass in float32 and the tolerance of linear-programming solvers.
_INSIDE = 1e-5


def steepness(encoding: Encoding) -> float:
    """The factor a of :func:`bit_scores`.

    1 for labels: the logistic function. 2 for codewords: `logistic(2 z) = (tanh(z) + 1) / 2`.
    """
    return 1.0 if encoding.multi_label else 2.0


def bit_scores(encoding: Encoding, logits: Tensor) -> Tensor:
    """The score (B, n) of each bit, `logistic(a z)`; its threshold is 1/2."""
    return (steepness(encoding) * logits).sigmoid()


def clearance(logits: Tensor) -> Tensor:
    """How far inside a threshold to aim (b, 1), in logits: relative to an image's largest logit, or to 1.

    On the threshold itself rounding decides, and a bit that shall be on is still off.
    """
    return _INSIDE * logits.abs().amax(dim=1, keepdim=True).clamp(min=1)
