"""Output encodings: how logits become a decision, and which region of logit space means a target.

Three encodings share one interface, so that an attack never asks which one it meets: one-hot classes, error-
correcting output codes (a codebook of +1/-1 words) and multi-label vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from scipy.linalg import hadamard as _sylvester
from torch import Tensor
from torch.nn import functional

from wolfe.region import BitRegion, ClassRegion, TargetRegion


class Encoding(ABC):
    """Turns logits (B, n) into a decision and a target into a region.

    Attributes:
        size: n, the number of logits.
        multi_label: whether labels are 0/1 vectors (B, n) instead of class indices (B,).
        bitwise: whether every logit is a bit that is on or off by itself.
    """

    size: int
    multi_label: bool = False
    bitwise: bool = True

    def outputs(self, logits: Tensor) -> Tensor:
        """The network's outputs (B, n): the logits, or their activation where the encoding has one."""
        return logits

    def output_slopes(self, logits: Tensor) -> Tensor:
        """The derivative (B, n) of each output by its own logit."""
        return torch.ones_like(logits)

    @abstractmethod
    def decide(self, logits: Tensor) -> Tensor:
        """The decoded labels: class indices (B,) or 0/1 vectors (B, n), int64."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Scores in [0, 1]: (B, classes), or (B, n) for multi-label."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss (B,) of each image that training lowers and loss-driven attacks use."""

    @abstractmethod
    def signs(self, target: Tensor) -> Tensor:
        """The wanted sign (B, n), +1 or -1, of every logit."""

    @abstractmethod
    def region(self, target: Tensor) -> TargetRegion:
        """The half-spaces in which the decision is the target; the rows hold for logits and outputs alike."""

    @abstractmethod
    def check_targets(self, target: Tensor, images: int) -> Tensor:
        """The targets as int64, once they fit.

        Raises:
            ValueError: wrong shape, type or range.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """A JSON description that :func:`encoding_from_dict` reads."""

    def bit_region(self, target: Tensor) -> TargetRegion:
        """The half-spaces in which every logit has the sign the target wants, bit by bit."""
        return BitRegion(self.signs(target))

    def bits(self, logits: Tensor) -> Tensor:
        """The bits (B, n), 0 or 1, that the logits show: 1 where a logit is above 0."""
        return (logits > 0).long()

    def target_bits(self, target: Tensor) -> Tensor:
        """The bits (B, n), 0 or 1, that the target asks for."""
        return (self.signs(target) > 0).long()

    def reached(self, logits: Tensor, target: Tensor) -> Tensor:
        """Whether (B,) the decision equals the target in full; where logits are not finite, nothing is decided."""
        same = self.decide(logits) == target
        return (same.all(dim=1) if self.multi_label else same) & logits.isfinite().all(dim=1)


class _Classes(Encoding):
    """What encodings with class indices share."""

    classes: int

    def check_targets(self, target: Tensor, images: int) -> Tensor:
        """Class indices (B,) between 0 and classes - 1."""
        target = torch.as_tensor(target)
        if target.shape != (images,) or target.is_floating_point() or target.dtype == torch.bool:
            raise ValueError(
                f"targets must be {images} class indices (shape ({images},), integers), "
                f"got shape {tuple(target.shape)} of {target.dtype}"
            )
        if images and not (int(target.min()) >= 0 and int(target.max()) < self.classes):
            raise ValueError(
                f"targets must be class indices from 0 to {self.classes - 1}, "
                f"got {int(target.min())} to {int(target.max())}"
            )
        return target.long()


class OneHot(_Classes):
    """One logit a class; the decision is the largest.

    Args:
        classes: the number of classes, at least 2.
    """

    bitwise = False

    def __init__(self, classes: int) -> None:
        if classes < 2:
            raise ValueError(f"OneHot needs at least 2 classes, got {classes}")
        self.classes = self.size = int(classes)

    def decide(self, logits: Tensor) -> Tensor:
        """The index (B,) of the largest logit."""
        return logits.argmax(dim=1)

    def bits(self, logits: Tensor) -> Tensor:
        """The decision as a 0/1 vector (B, n): a class is on or off whatever the sign of its logit."""
        return functional.one_hot(self.decide(logits), self.classes)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax (B, classes)."""
        return logits.softmax(dim=1)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (B,)."""
        return functional.cross_entropy(logits, target, reduction="none")

    def signs(self, target: Tensor) -> Tensor:
        """+1 for the target class, -1 for the others."""
        return 2.0 * functional.one_hot(target, self.classes) - 1.0

    def region(self, target: Tensor) -> TargetRegion:
        """Rows e_i - e_t for every other class i: (classes - 1) half-spaces."""
        return ClassRegion(target, self.classes)

    def to_dict(self) -> dict[str, Any]:
        """`{"kind": "one_hot", "classes": ...}`."""
        return {"kind": "one_hot", "classes": self.classes}


class Codebook(_Classes):
    """Error-correcting output code: the decision is the codeword with the largest correlation to the outputs.

    Decoding is argmax_k f(x).c_k with f = tanh of the logits (JMA paper, Section III-B; `activation="none"`
    leaves the logits as they are).

    Args:
        codewords: (classes, n) of +1 and -1, all different.
        activation: "tanh" or "none".
    """

    def __init__(self, codewords: Tensor, activation: Literal["tanh", "none"] = "tanh") -> None:
        codewords = torch.as_tensor(codewords, dtype=torch.float32)
        if codewords.ndim != 2 or len(codewords) < 2 or not bool((codewords.abs() == 1).all()):
            raise ValueError("codewords must be a (classes, bits) matrix of +1 and -1 with at least 2 rows")
        if len(codewords.unique(dim=0)) != len(codewords):
            raise ValueError("codewords must differ from each other: two classes share one")
        if activation not in ("tanh", "none"):
            raise ValueError(f"activation must be 'tanh' or 'none', got {activation!r}")
        self.codewords = codewords
        self.activation = activation
        self.classes, self.size = codewords.shape

    def outputs(self, logits: Tensor) -> Tensor:
        """Tanh of the logits (B, n), or the logits for `activation="none"`."""
        return logits.tanh() if self.activation == "tanh" else logits

    def output_slopes(self, logits: Tensor) -> Tensor:
        """1 - tanh^2 (B, n), or ones for `activation="none"`."""
        return 1.0 - logits.tanh() ** 2 if self.activation == "tanh" else torch.ones_like(logits)

    def correlations(self, values: Tensor) -> Tensor:
        """The correlation (B, classes) of outputs or logits (B, n) with every codeword."""
        return values @ self.codewords.to(values).T

    def decide(self, logits: Tensor) -> Tensor:
        """The index (B,) of the best correlated codeword."""
        return self.correlations(self.outputs(logits)).argmax(dim=1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Positive parts of the correlations over their sum (B, classes); uniform where none is positive."""
        positive = self.correlations(self.outputs(logits)).clamp(min=0)
        total = positive.sum(dim=1, keepdim=True)
        return torch.where(total > 0, positive / total.clamp(min=1e-12), torch.full_like(positive, 1 / self.classes))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Hinge (B,): the sum over bits of max(1 - c_i f_i, 0)."""
        return (1.0 - self.signs(target).to(logits) * self.outputs(logits)).clamp(min=0).sum(dim=1)

    def signs(self, target: Tensor) -> Tensor:
        """The target's codeword (B, n)."""
        return self.codewords.to(target.device)[target]

    def region(self, target: Tensor) -> TargetRegion:
        """Rows c_i - c_t for every other class i, on the logits or on the outputs (the same rows)."""
        return ClassRegion(target, self.classes, self.codewords)

    def to_dict(self) -> dict[str, Any]:
        """`{"kind": "codebook", "codewords": [[...]], "activation": ...}`."""
        words = self.codewords.long().tolist()
        return {"kind": "codebook", "codewords": words, "activation": self.activation}


class MultiLabel(Encoding):
    """One logit a label; label j is on iff its logit is above 0.

    Args:
        labels: the number of labels, at least 1.
    """

    multi_label = True

    def __init__(self, labels: int) -> None:
        if labels < 1:
            raise ValueError(f"MultiLabel needs at least 1 label, got {labels}")
        self.labels = self.size = int(labels)

    def decide(self, logits: Tensor) -> Tensor:
        """0/1 vectors (B, n)."""
        return self.bits(logits)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The logistic function of the logits (B, n)."""
        return logits.sigmoid()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Binary cross-entropy (B,), averaged over the labels."""
        per_label = functional.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
        return per_label.mean(dim=1)

    def signs(self, target: Tensor) -> Tensor:
        """+1 for labels that shall be on, -1 for the others."""
        return 2.0 * target - 1.0

    def region(self, target: Tensor) -> TargetRegion:
        """Rows -s_j e_j: n half-spaces, each label on its own (JMA paper, Section V-B)."""
        return self.bit_region(target)

    def check_targets(self, target: Tensor, images: int) -> Tensor:
        """0/1 vectors (B, n)."""
        target = torch.as_tensor(target)
        if target.shape != (images, self.size):
            raise ValueError(
                f"targets must be 0/1 label vectors of shape ({images}, {self.size}), got {tuple(target.shape)}"
            )
        if not bool(((target == 0) | (target == 1)).all()):
            raise ValueError("targets must hold only 0 and 1")
        return target.long()

    def to_dict(self) -> dict[str, Any]:
        """`{"kind": "multi_label", "labels": ...}`."""
        return {"kind": "multi_label", "labels": self.labels}


def hadamard(length: int, classes: int) -> Tensor:
    """The first rows of the Sylvester-Hadamard matrix as codewords (classes, length) of +1 and -1.

    Args:
        length: bits of a codeword, a power of two.
        classes: codewords wanted, at most `length`.

    Raises:
        ValueError: the length is no power of two or too short.
    """
    if length < 2 or length & (length - 1):
        raise ValueError(f"a Hadamard code's length must be a power of two (2, 4, 8, ...), got {length}")
    if not 2 <= classes <= length:
        raise ValueError(f"a Hadamard code of length {length} has 2 to {length} codewords, got {classes}")
    return torch.tensor(_sylvester(length)[:classes], dtype=torch.float32)


def encoding_from_dict(description: dict[str, Any]) -> Encoding:
    """The encoding that `to_dict` described.

    Raises:
        ValueError: an unknown kind.
    """
    kind = description.get("kind")
    if kind == "one_hot":
        return OneHot(description["classes"])
    if kind == "codebook":
        return Codebook(torch.tensor(description["codewords"]), description["activation"])
    if kind == "multi_label":
        return MultiLabel(description["labels"])
    raise ValueError(f"unknown encoding {kind!r}: one_hot, codebook or multi_label")
