"""What is measured on an attacked image: distortion, similarity, bits."""

from __future__ import annotations

import math

import numpy as np
from skimage.metrics import structural_similarity

_ZERO = 1e-7


def distortion(original: np.ndarray, changed: np.ndarray) -> dict[str, float]:
    """Distances between two images (C, H, W) in [0, 1].

    `mse` is the mean of squared differences over all values (the JMA paper's tables hold mean squares, although its
    formula, Section VI-C, prints a root), `l0` counts values that differ by at least 1e-7, `psnr` is in decibels
    (infinite for equal images).

    Returns:
        mse, rmse, psnr, ssim, l0, l1, l2, linf.

    Raises:
        ValueError: the shapes differ.
    """
    if original.shape != changed.shape:
        raise ValueError(f"images differ in shape: {original.shape} and {changed.shape}")
    difference = changed.astype(np.float64) - original.astype(np.float64)
    squares = float(np.mean(difference**2))
    return {
        "mse": squares,
        "rmse": math.sqrt(squares),
        "psnr": -10 * math.log10(squares) if squares > 0 else math.inf,
        "ssim": similarity(original, changed),
        "l0": float(np.count_nonzero(np.abs(difference) >= _ZERO)),
        "l1": float(np.abs(difference).sum()),
        "l2": float(np.sqrt((difference**2).sum())),
        "linf": float(np.abs(difference).max(initial=0.0)),
    }


def similarity(original: np.ndarray, changed: np.ndarray) -> float:
    """Structural similarity of two images (C, H, W) in [0, 1]: Gaussian window of sigma 1.5, mean over channels.

    Images too small for the 11x11 window are compared with the largest odd window that fits.
    """
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    smallest = min(original.shape[1:])
    if smallest < 11:
        options = {"win_size": smallest - 1 + smallest % 2, "use_sample_covariance": False}
    value = structural_similarity(
        original.astype(np.float64), changed.astype(np.float64), data_range=1.0, channel_axis=0, **options
    )
    return float(value)


def eight_bit(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as an 8-bit file would give them back: rounded to multiples of 1/255 and clipped."""
    return np.clip(np.rint(images * 255), 0, 255).astype(images.dtype) / images.dtype.type(255)
