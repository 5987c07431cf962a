"""Pictures of published sets, decoded when they are asked for and brought to one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from wolfe.data.hub_table import Table
from wolfe.data.source import usable_cores
from wolfe.reading.pictures import check_pixels, read_picture

# Pictures that are decoded side by side.
_TOGETHER = 128


@dataclass(frozen=True)
class Shape:
    """What every picture of a set is brought to.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: height and width, without the border.
        shorter_side: the shorter side is brought to this length before a square of `size` is cut from the middle.
        pad: width of the black border around that square.
        stretch: the whole picture is brought to that square instead, whatever its shape was.
        published: height and width that every picture of the set has, each in so many `channels`; 0 where they differ.
    """

    channels: int
    size: int
    shorter_side: int
    pad: int = 0
    stretch: bool = False
    published: int = 0


class Pictures(Sequence[NDArray[np.uint8]]):
    """Some rows of a table as pictures of one size, decoded when asked for: one row group at a time is in memory.

    Args:
        table: of the split.
        rows: which of its rows, rising.
        shape: what the pictures are brought to.
    """

    def __init__(self, table: Table, rows: NDArray[np.int64], shape: Shape) -> None:
        self.table = table
        self.rows = rows
        self.shape = shape

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Sequence[NDArray[np.uint8]]:
        pictures = Pictures(self.table, np.atleast_1d(self.rows[index]), self.shape)
        return pictures if isinstance(index, slice) else self._picture(next(pictures._contents()))

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            contents = self._contents()
            while some := list(islice(contents, _TOGETHER)):
                yield from pool.map(self._picture, some)

    def _contents(self) -> Iterator[tuple[str, bytes]]:
        """The encoded pictures, each with words that say where it is."""
        piece_of = np.searchsorted(self.table.starts, self.rows, side="right") - 1
        numbers, begins = np.unique(piece_of, return_index=True)
        for number, rows in zip(numbers, np.split(self.rows, begins[1:]), strict=True):
            yield from self.table.pieces[number].contents((rows - self.table.starts[number]).tolist())

    def _picture(self, found: tuple[str, bytes]) -> NDArray[np.uint8]:
        where, content = found
        try:
            image = read_picture(content, None)
            form, picture = (len(image.getbands()), *image.size), np.asarray(shaped(image, self.shape))
        except ValueError as error:
            raise ValueError(f"hub: {where} is no picture ({error})") from error
        right = (self.shape.channels, self.shape.published, self.shape.published)
        if self.shape.published and form != right:
            there, wanted = (f"{wide}x{high} pixels in {bands} channel(s)" for bands, wide, high in (form, right))
            raise ValueError(f"hub: {where} has {there}, the set's pictures have {wanted}: these are no files of it")
        return picture


def shaped(image: Image.Image, shape: Shape) -> Image.Image:
    """A picture in the colours, size and border of a set."""
    coloured = image.convert("L" if shape.channels == 1 else "RGB")
    if shape.stretch:
        square = coloured.resize((shape.size, shape.size), Image.Resampling.BILINEAR)
    else:
        square = middle(coloured, shape.size, shape.shorter_side)
    return ImageOps.expand(square, shape.pad) if shape.pad else square


def middle(image: Image.Image, size: int, shorter_side: int) -> Image.Image:
    """The middle square of a picture whose shorter side was brought to a length: the usual way to evaluate.

    Args:
        image: of any shape.
        size: the square's side.
        shorter_side: length of the shorter side before the cut, at least `size`.

    Raises:
        ValueError: it is so long and thin that it would become too large.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(shorter_side * long / short)
    shape = (shorter_side, longer) if width <= height else (longer, shorter_side)
    check_pixels(*shape)
    if shape != image.size:
        image = image.resize(shape, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))
