"""Which labels imply which: the hierarchy of a multi-label data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelGraph:
    """A forest of labels: a label that is on has its parent on (an ancestor may be on alone).

    Attributes:
        parents: for each label the index of its parent, or None for a root. No cycles.

    Raises:
        ValueError: a parent that is no label, or a label that is its own ancestor; the message names the label.
    """

    parents: tuple[int | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", tuple(self.parents))
        for label, parent in enumerate(self.parents):
            if parent is not None and (isinstance(parent, bool) or not isinstance(parent, int)):
                raise ValueError(f"the parent of label {label} must be the index of a label or None, got {parent!r}")
            if parent is not None and not 0 <= parent < len(self.parents):
                raise ValueError(
                    f"the parent of label {label} must be one of the {len(self.parents)} labels "
                    f"(0 to {len(self.parents) - 1}), got {parent}"
                )
        for label in range(len(self.parents)):
            self._walk_up(label)

    def _walk_up(self, label: int) -> list[int]:
        """The label and its ancestors, nearest first."""
        seen: list[int] = []
        here: int | None = label
        while here is not None:
            if here in seen:
                raise ValueError(f"label {here} is its own ancestor: the parents form a cycle")
            seen.append(here)
            here = self.parents[here]
        return seen

    @cached_property
    def _ancestry(self) -> Tensor:
        """(n, n) of 0 and 1: entry (i, j) says that j is i itself or an ancestor of i."""
        ancestry = torch.zeros(len(self.parents), len(self.parents))
        for label in range(len(self.parents)):
            ancestry[label, self._walk_up(label)] = 1
        return ancestry

    def consistent(self, vectors: Tensor) -> Tensor:
        """Whether (B,) label vectors (B, n) of 0 and 1 obey the hierarchy: every label on has its parent on.

        Raises:
            ValueError: the vectors have another number of labels.
        """
        on = self._checked(vectors)
        children = [label for label, parent in enumerate(self.parents) if parent is not None]
        above = [parent for parent in self.parents if parent is not None]
        return (~on[:, children] | on[:, above]).all(dim=1)

    def closure(self, present: Tensor, target: Tensor) -> Tensor:
        """Target vectors (B, n), extended so that a change of the present ones (B, n) keeps to the hierarchy.

        The rule of SemA-ML (Mahmood, Elhamifar: "Semantic-Aware Multi-Label Adversarial Attacks", CVPR 2024):
        a label that the target turns on turns on its ancestors; one that it turns off turns off its descendants.
        Where the two meet, on wins: a label that a newly lit descendant needs stays on, and so do its other
        descendants that the target leaves on.

        A consistent target comes back as it is. Where `present` is consistent, so is the result; a present vector
        that is not is mended only where the change touches it.

        Returns:
            Vectors (B, n) of 0 and 1 in the type of `target`.

        Raises:
            ValueError: the vectors have another number of labels.
        """
        before, after = self._checked(present), self._checked(target)
        ancestry = self._ancestry.to(target.device)
        raised = (after & ~before).float() @ ancestry > 0
        lowered = (before & ~after & ~raised).float() @ ancestry.T > 0
        return ((after | raised) & ~lowered).to(target.dtype)

    def _checked(self, vectors: Tensor) -> Tensor:
        if vectors.ndim != 2 or vectors.shape[1] != len(self.parents):
            raise ValueError(f"label vectors must have the shape (B, {len(self.parents)}), got {tuple(vectors.shape)}")
        return vectors.bool()
