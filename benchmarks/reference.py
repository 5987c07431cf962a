"""JMA written plainly, for comparison: one image at a time, straight from the mathematics of its paper.

Tondi, Guo, Pancino, Barni: "JMA: a General Algorithm to Craft Nearly Optimal Targeted Adversarial Examples". The
Jacobian is dense, one backward pass a row; its rank comes from a singular value decomposition; the quadratic programme

    minimise 1/2 w' H w - b' w  over w >= 0,   H = R J J' R',   b = R z

goes to an interior-point solver (clarabel). Nothing is shared between images or iterations.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from wolfe.classifier import Classifier

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class ReferenceResult:
    """What became of one image: linearised problems solved, success, the image (C, H, W), and seconds."""

    solves: int
    success: bool
    image: Tensor
    seconds: float


def interior_point(gram: Matrix, demand: Matrix) -> Matrix:
    """The solution w (k,) of `min 1/2 w' H w - b' w, w >= 0` by clarabel.

    Args:
        gram: H (k, k).
        demand: b (k,).

    Raises:
        ModuleNotFoundError: clarabel is not installed.
    """
    try:
        clarabel: Any = import_module("clarabel")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the interior-point solver needs clarabel: `make benchmark` installs it") from error
    size = len(demand)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu(gram)),
        -demand,
        -sparse.identity(size, format="csc"),
        np.zeros(size),
        [clarabel.NonnegativeConeT(size)],
        settings,
    )
    return np.maximum(np.asarray(solver.solve().x), 0.0)


def dense_step(classifier: Classifier, image: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """The least perturbation (1, C, H, W) into the linearised region of one image, and the Jacobian's rank.

    Args:
        classifier: in evaluation mode, its parameters frozen.
        image: (1, C, H, W).
        target: of that image, (1,) or (1, n).
    """
    inputs = image.detach().requires_grad_(True)
    logits = classifier(inputs)
    rows = [torch.autograd.grad(value, inputs, retain_graph=True)[0].flatten() for value in logits[0].unbind()]
    jacobian = torch.stack(rows).double().cpu().numpy()
    rank = int(np.linalg.matrix_rank(jacobian))
    region = classifier.encoding.region(target)
    sides = region.dense(logits.detach())[0].double().cpu().numpy()
    demand = region.violations(logits.detach())[0].double().cpu().numpy()
    gram = sides @ (jacobian @ jacobian.T) @ sides.T
    # In units of its size: interior-point solvers have absolute tolerances.
    scale = max(float(np.abs(np.diag(gram)).max()), 1e-300)
    unit = max(float(np.abs(demand).max()), 1e-300)
    weights = interior_point(gram / scale, demand / unit) * unit / scale
    step = torch.from_numpy(-(weights @ sides) @ jacobian).to(image)
    return step.view_as(image), rank


def attack(
    classifier: Classifier, image: Tensor, target: Tensor, step_size: float, max_iterations: int, search_steps: int = 6
) -> ReferenceResult:
    """Algorithm 1 on one image (1, C, H, W): full step, else a step of fixed length; at the end a bisection."""
    begin = time.perf_counter()
    present, solves = image.clone(), 0
    for _ in range(max_iterations):
        step, _ = dense_step(classifier, present, target)
        solves += 1
        if _reached(classifier, present + step, target):
            found = _bisect(classifier, present, step, target, search_steps)
            return ReferenceResult(solves, True, found[0], time.perf_counter() - begin)
        moved = (present + step_size * step / step.norm().clamp(min=1e-30)).clamp(0, 1)
        if _reached(classifier, moved, target):
            found = _bisect(classifier, present, moved - present, target, search_steps)
            return ReferenceResult(solves, True, found[0], time.perf_counter() - begin)
        present = moved
    return ReferenceResult(solves, False, present[0], time.perf_counter() - begin)


def _bisect(classifier: Classifier, origin: Tensor, move: Tensor, target: Tensor, steps: int) -> Tensor:
    low, high, best = 0.0, 1.0, (origin + move).clamp(0, 1)
    for _ in range(steps):
        middle = (low + high) / 2
        tried = (origin + middle * move).clamp(0, 1)
        if _reached(classifier, tried, target):
            high, best = middle, tried
        else:
            low = middle
    return best


def _reached(classifier: Classifier, image: Tensor, target: Tensor) -> bool:
    with torch.no_grad():
        return bool(classifier.encoding.reached(classifier(image.clamp(0, 1)), target))
