"""The labels of the scenes: a digit in a colour, and with a hierarchy what that implies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wolfe.data.digits import CLASSES

# Hues that the photographs hardly hold, far from each other; the dark seam keeps them legible on bright ground.
COLOURS = {"magenta": (255, 60, 215), "green": (70, 255, 90), "yellow": (255, 215, 30), "blue": (50, 170, 255)}
# What stands before a colour's ten digits in a hierarchy; a digit's parity is at 1 or 2.
_GROUPS = ("", " even", " odd")


@dataclass(frozen=True, kw_only=True)
class SceneLabels:
    """What a data set of scenes can say of a picture.

    Things that are drawn are numbered colour by colour: number 10 c + d is digit d in colour c. Without a
    hierarchy these numbers are the labels.

    Attributes:
        colours: how many of `COLOURS` there are, from the first.
        hierarchy: whether each colour, and its even and its odd digits, are labels too.
    """

    colours: int
    hierarchy: bool

    @property
    def things(self) -> int:
        """How many different things can be drawn."""
        return CLASSES * self.colours

    @property
    def colour_names(self) -> list[str]:
        """The names of the colours in use."""
        return list(COLOURS)[: self.colours]

    @property
    def names(self) -> list[str]:
        """The labels' names: "green 7", and in a hierarchy "green" and "green odd" before a colour's digits."""
        groups = _GROUPS if self.hierarchy else ()
        ends = [*groups, *(f" {digit}" for digit in range(CLASSES))]
        return [colour + end for colour in self.colour_names for end in ends]

    @property
    def parents(self) -> tuple[int | None, ...] | None:
        """Each label's parent, None for a root: digit to parity to colour; None without a hierarchy."""
        if not self.hierarchy:
            return None
        of_one = (None, 0, 0, *(1 + digit % 2 for digit in range(CLASSES)))
        starts = range(0, len(of_one) * self.colours, len(of_one))
        return tuple(None if parent is None else start + parent for start in starts for parent in of_one)

    def of(self, things: Iterable[int]) -> list[int]:
        """The sorted labels of a picture that shows some things: their own, and their ancestors."""
        if not self.hierarchy:
            return sorted(things)
        on: set[int] = set()
        for thing in things:
            colour, digit = divmod(thing, CLASSES)
            start = colour * (len(_GROUPS) + CLASSES)
            on |= {start, start + 1 + digit % 2, start + len(_GROUPS) + digit}
        return sorted(on)
