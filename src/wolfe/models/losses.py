"""What training lowers: a loss of each image by the name that a study gives it.

Attacks that follow a loss use the encoding's own, `Encoding.loss`, whatever a classifier was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wolfe.encoding import Encoding
from wolfe.model_choices import LOSSES

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, n) and labels, (B,) or (B, n), to the loss (B,) of each image."""


def hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Hinge (B,) of a multi-label vector: the mean over labels of max(1 - s_j z_j, 0), s_j = +1 where one is on or -1.

    Args:
        logits: (B, n).
        labels: (B, n) of 0 and 1.
    """
    return (1.0 - (2.0 * labels - 1.0) * logits).clamp(min=0).mean(dim=1)


def categorical_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Keras's categorical hinge (B,) on a multi-label vector y: max(1 + max_j (1 - y_j) z_j - sum_j y_j z_j, 0).

    Meant for one class; of several labels it wants the sum of those that are on above the largest of the others (and
    above 0, since a label that is on counts as 0 in the maximum) by 1. Where 0 parts on from off is not its concern.

    Args:
        logits: (B, n).
        labels: (B, n) of 0 and 1.
    """
    on = (labels * logits).sum(dim=1)
    off = ((1 - labels) * logits).amax(dim=1)
    return (1.0 + off - on).clamp(min=0)


@dataclass(frozen=True)
class AsymmetricLoss:
    """Asymmetric loss (T. Ridnik et al., 2021, https://arxiv.org/abs/2009.14119, equation 7).

    Cross-entropy of each label, less of it where the label is easy: the log-probability of a label that is on is
    weighted by (1 - p)^gamma_positive, that of one that is off by q^gamma_negative with q = max(p - clip, 0). The
    defaults are the paper's for MS-COCO. Averaged over the labels, where the paper sums, so that with both exponents
    and the clip at 0 it is the binary cross-entropy.

    Attributes:
        gamma_negative: exponent for labels that are off.
        gamma_positive: exponent for labels that are on.
        clip: a label that is off and less probable than this costs nothing.
    """

    gamma_negative: float = 4.0
    gamma_positive: float = 0.0
    clip: float = 0.05

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: an exponent is negative, or the clip is no share.
        """
        if min(self.gamma_negative, self.gamma_positive) < 0 or not 0 <= self.clip < 1:
            raise ValueError(f"asymmetric loss: exponents must not be negative, clip in [0, 1): got {self}")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss (B,) of logits (B, n) and labels (B, n) of 0 and 1."""
        off = (torch.sigmoid(logits) - self.clip).clamp(min=0)
        # Without the clip the logarithm of the small rest would lose digits, and be infinite where it rounds to 0.
        log_off = torch.log1p(-off) if self.clip else functional.logsigmoid(-logits)
        gains_on = torch.sigmoid(-logits) ** self.gamma_positive * functional.logsigmoid(logits)
        gains_off = off**self.gamma_negative * log_off
        return -torch.where(labels > 0, gains_on, gains_off).mean(dim=1)


# Of those that a study may name, the ones that are no encoding's own.
_OTHERS: dict[str, Loss] = {"hinge": hinge, "categorical_hinge": categorical_hinge, "asymmetric": AsymmetricLoss()}


def kind_of(encoding: Encoding) -> str:
    """The name of an encoding's kind in a study."""
    return str(encoding.to_dict()["kind"])


def check_loss(kind: str, name: str) -> None:
    """Refuses a loss that an encoding is not trained with.

    Raises:
        ValueError: the message lists those it is.
    """
    if name not in LOSSES[kind]:
        raise ValueError(f"loss: {kind} is trained with {', '.join(LOSSES[kind])}, got {name!r}")


def training_loss(encoding: Encoding, name: str | None) -> Loss:
    """The loss that a classifier is trained with.

    Args:
        encoding: of its logits.
        name: one of the `LOSSES` of its kind; None for the encoding's own.

    Raises:
        ValueError: the encoding is not trained with it.
    """
    kind = kind_of(encoding)
    if name is None:
        return encoding.loss
    check_loss(kind, name)
    return encoding.loss if name == LOSSES[kind][0] else _OTHERS[name]
