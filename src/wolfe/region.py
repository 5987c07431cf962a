"""Target regions: the half-spaces `R v <= -margin` of logit or output space that lead to a target.

A region speaks for a batch: image b has its own rows R_b (k, n). R is an operator; its rows are written out only
where somebody asks for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class TargetRegion(ABC):
    """The half-spaces of a batch of targets.

    Attributes:
        count: k, half-spaces an image.
    """

    count: int

    @abstractmethod
    def violations(self, values: Tensor) -> Tensor:
        """`R v` (B, k) for values (B, n): above 0 where a half-space is left, below 0 inside."""

    @abstractmethod
    def pull(self, weights: Tensor) -> Tensor:
        """`R^T w` (B, n) for weights (B, k)."""

    @abstractmethod
    def rows(self, index: Tensor) -> Tensor:
        """The rows (B, j, n) at the given positions (B, j) of 0 to k - 1."""

    @abstractmethod
    def select(self, index: Tensor) -> TargetRegion:
        """The region of some images of the batch, by their positions (b,)."""

    def dense(self, like: Tensor) -> Tensor:
        """All rows (B, k, n), in the type and on the device of `like`, whose first dimension is B."""
        index = torch.arange(self.count, device=like.device).expand(len(like), -1)
        return self.rows(index).to(like)


class ClassRegion(TargetRegion):
    """Rows `c_i - c_t` for every class i other than the target t (JMA paper, Section V).

    Args:
        target: class indices (B,).
        classes: the number of classes; k is one less.
        codewords: (classes, n); None stands for the identity (one-hot), which is never written out.
    """

    def __init__(self, target: Tensor, classes: int, codewords: Tensor | None = None) -> None:
        self.target = target
        self.classes = classes
        self.codewords = None if codewords is None else codewords.to(target.device)
        self.count = classes - 1
        others = torch.arange(self.count, device=target.device).expand(len(target), -1)
        self._others = others + (others >= target[:, None]).long()

    def violations(self, values: Tensor) -> Tensor:
        """Score of each other class less that of the target (B, classes - 1)."""
        scores = values if self.codewords is None else values @ self.codewords.to(values).T
        return scores.gather(1, self._others) - scores.gather(1, self.target[:, None])

    def pull(self, weights: Tensor) -> Tensor:
        """The weighted sum of the rows (B, n)."""
        per_class = weights.new_zeros(len(weights), self.classes).scatter(1, self._others, weights)
        per_class = per_class.scatter(1, self.target[:, None], -weights.sum(dim=1, keepdim=True))
        return per_class if self.codewords is None else per_class @ self.codewords.to(weights)

    def rows(self, index: Tensor) -> Tensor:
        """Rows `c_i - c_t` (B, j, n)."""
        others = self._others.gather(1, index)
        if self.codewords is None:
            words = torch.zeros(*others.shape, self.classes, device=others.device)
            ones = torch.ones_like(words[:, :, :1])
            target = self.target[:, None, None].expand(-1, others.shape[1], 1)
            return words.scatter_(2, others[:, :, None], ones).scatter_(2, target, -ones)
        return self.codewords[others] - self.codewords[self.target][:, None]

    def select(self, index: Tensor) -> ClassRegion:
        """The region of some images."""
        return ClassRegion(self.target[index], self.classes, self.codewords)


class BitRegion(TargetRegion):
    """Rows `-s_j e_j`: every bit j shall have the sign s_j (JMA paper, Section V).

    Args:
        signs: (B, n) of +1 and -1.
    """

    def __init__(self, signs: Tensor) -> None:
        self.signs = signs
        self.count = signs.shape[1]

    def violations(self, values: Tensor) -> Tensor:
        """`-s v` (B, n)."""
        return -self.signs.to(values) * values

    def pull(self, weights: Tensor) -> Tensor:
        """`-s w` (B, n)."""
        return -self.signs.to(weights) * weights

    def rows(self, index: Tensor) -> Tensor:
        """Rows `-s_j e_j` (B, j, n)."""
        empty = self.signs.new_zeros(*index.shape, self.count)
        return empty.scatter_(2, index[:, :, None], -self.signs.gather(1, index)[:, :, None])

    def select(self, index: Tensor) -> BitRegion:
        """The region of some images."""
        return BitRegion(self.signs[index])
