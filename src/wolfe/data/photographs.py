"""The photographs that ship inside the scikit-image package, cut into bands that never meet.

Files are read from the installed package's folder. `skimage.data` itself is left alone: it downloads what the
package does not hold.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

# Left out are drawings and test cards (chessboards, logo, phantom, colour wheel, horse), pictures of writing,
# a blurred clock, crops of other photographs, and motorcycle_right.png: motorcycle_left.png from a step aside.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
# Each photograph's columns, as shares of its width. Vertical cuts, so that no region of one split touches a
# region of another, even where crops are enlarged.
BANDS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}


def revision() -> str:
    """Name and version of the package that the photographs come from."""
    return f"scikit-image {version('scikit-image')}"


@cache
def photograph(name: str) -> Image.Image:
    """A photograph by its file name, in RGB.

    Raises:
        FileNotFoundError: the installed scikit-image does not hold it.
    """
    specification = find_spec("skimage")
    origin = specification.origin if specification else None
    path = Path(origin or "skimage").parent / "data" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install scikit-image from a wheel, which holds it")
    with Image.open(path) as image:
        return image.convert("RGB")


def band(name: str, split: str) -> tuple[int, int, int, int]:
    """The region of a photograph that belongs to a split, as (left, top, right, bottom) pixels."""
    width, height = photograph(name).size
    left, right = BANDS[split]
    return round(left * width), 0, round(right * width), height
