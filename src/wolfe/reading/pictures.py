"""Pictures of a few usual formats, their size known before they are decoded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from PIL import Image

MOST_PIXELS = 80_000_000
"""Pixels of a picture, also after its shorter side is brought to another length: some 250 MB in colour."""
LARGEST = 1 << 29
"""Bytes of a picture's file."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM", "TIFF")
"""What is decoded. Pillow knows dozens more, one of which (EPS) would have another program run the file."""


def read_picture(
    source: Path | bytes,
    mode: Literal["L", "RGB"] | None,
    *,
    size: tuple[int, int] | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """A picture, decoded.

    Args:
        source: a file, or its content.
        mode: grey or colour, whatever the picture has; None for what it has.
        size: width and height that it must have; None for any.
        formats: which of Pillow's formats may be tried.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, too large, or not of that size.
    """
    if isinstance(source, Path):
        if not source.is_file():
            raise FileNotFoundError(f"there is no picture {source}")
        if source.stat().st_size > LARGEST:
            raise ValueError(f"the file is larger than {LARGEST} bytes")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as opened:
            _check_size(opened.size, size)
            return opened.convert(mode) if mode else opened.copy()
    except MemoryError:
        raise
    except ValueError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MOST_PIXELS} pixels ({error})") from None
    except Exception as error:
        # Pillow's decoders fail by whatever comes first in a damaged file: struct.error, KeyError, SyntaxError, ...
        raise ValueError(str(error) or type(error).__name__) from error


def _check_size(found: tuple[int, int], size: tuple[int, int] | None) -> None:
    """Refuses a size that only the header tells so far."""
    width, height = found
    if size is not None and found != size:
        raise ValueError(f"it has {width}x{height} pixels, not {size[0]}x{size[1]}")
    check_pixels(width, height)


def check_pixels(width: int, height: int) -> None:
    """Refuses pictures without pixels and with more than `MOST_PIXELS`.

    Raises:
        ValueError: the message tells the bound.
    """
    if width < 1 or height < 1:
        raise ValueError(f"it has {width}x{height} pixels")
    if width * height > MOST_PIXELS:
        raise ValueError(f"{width}x{height} pixels are more than {MOST_PIXELS}: make it smaller")
