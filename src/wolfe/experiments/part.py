"""A part of an attack run: some of its shards, attacked by a job of their own and left in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One of the parts that a run's shards are divided into.

    Attributes:
        number: which one, from 1 on.
        parts: how many there are.

    Raises:
        ValueError: there is no such part.
    """

    number: int
    parts: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.parts:
            raise ValueError(f"there is no part {self.number} of {self.parts}")

    @classmethod
    def read(cls, text: str) -> Part:
        """The part that a text such as "2/4" names.

        Raises:
            ValueError: it names none.
        """
        number, _, parts = text.partition("/")
        if not (text.isascii() and number.isdecimal() and parts.isdecimal()):
            raise ValueError(f"a part is given as NUMBER/PARTS, for example 2/4, got {text!r}")
        return cls(int(number), int(parts))

    def positions(self, items: int) -> range:
        """The positions of its items, from 0 on: neighbours, and no part has two more than another.

        Args:
            items: how many there are to divide; with fewer than parts, some parts have none.
        """
        return range(items * (self.number - 1) // self.parts, items * self.number // self.parts)


WHOLE = Part(1, 1)
"""All shards."""
