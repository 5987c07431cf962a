"""How long the gradients of four losses are in a plane of two classes (Ozbulak et al. 2020, supplement).

Two rings of points, the inner one the target. A network with one hidden layer of ReLU neurons learns them; over a
grid the length of each loss's gradient by the two coordinates is worked out in single precision, as attacks have it.
The losses are those of `attacks.gradient`; with two classes S1, S2 and S3 cover the plane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_circles
from torch import Tensor, nn
from torch.nn import functional

from wolfe.files import atomic_path
from wolfe.models.storage import resolve_device
from wolfe.provenance import begin_run, checksums, device_name
from wolfe.seeding import seed_for

RECORDS, POINTS, RUN = "records.parquet", "points.parquet", "run.json"
OUTER, INNER = 0, 1
SURE = 0.9
"""From this softmax on a class counts as certain."""
_STEPS, _RATE = 600, 0.02
_MARGIN = 0.25


def write_circles(spec: Mapping[str, Any], results: Path, out: Path, seed: int, device: str) -> None:  # noqa: ARG001
    """Trains the network and writes the maps.

    Args:
        spec: `name`, and `hidden` neurons, `points` in both rings together, their `noise` (standard deviation; the
            outer radius is 1), `factor` (the inner radius) and `grid`, points of the maps on a side.
        results: `results/<study>`; nothing of it is needed.
        out: a folder for `records.parquet` (a line for each point of the grid: x, y, softmax of the target, space 1
            to 3, and the length of each loss's gradient), `points.parquet` (x, y, label, decision) and `run.json`.
        seed: the study's.
        device: "cpu" or "cuda".

    Raises:
        ValueError: an option is out of range.
    """
    run = begin_run("experiment", spec, seed=seed)
    options = _options(spec)
    where = torch.device(resolve_device(device))
    numbers = {name: seed_for(seed, "circles", name) for name in ("points", "network")}
    points, labels = make_circles(
        options["points"], noise=options["noise"], factor=options["factor"], random_state=numbers["points"] % 2**32
    )
    net = _trained(points, labels, int(options["hidden"]), numbers["network"], where)
    edge = float(np.abs(points).max()) + _MARGIN
    decided = _decisions(net, points, where)
    content: dict[str, Any] = {
        "options": options,
        "images": len(points),
        "accuracy": float((decided == labels).mean()),
        "sure": SURE,
        "device": device_name(where),
    }
    with atomic_path(Path(out)) as folder:
        folder.mkdir()
        maps(net, edge, int(options["grid"]), where).to_parquet(folder / RECORDS, index=False)
        frame = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "label": labels, "decision": decided})
        frame.to_parquet(folder / POINTS, index=False)
        outputs = checksums([folder / RECORDS, folder / POINTS])
        run.write(folder / RUN, outputs, ["wolfe.experiments.circles"], **content)


def _options(spec: Mapping[str, Any]) -> dict[str, float]:
    """The options with their defaults, once they are in range."""
    defaults: dict[str, float] = {"hidden": 16, "points": 400, "noise": 0.08, "factor": 0.5, "grid": 161}
    options = {name: spec.get(name, default) for name, default in defaults.items()}
    for name, least in (("hidden", 1), ("points", 20), ("grid", 16)):
        if not isinstance(options[name], int) or options[name] < least:
            raise ValueError(f"circles: {name} must be a whole number, at least {least}, got {options[name]!r}")
    if not 0 < options["factor"] < 1:
        raise ValueError(f"circles: factor must be between 0 and 1, got {options['factor']!r}")
    if options["noise"] < 0:
        raise ValueError(f"circles: noise must be 0 or above, got {options['noise']!r}")
    return options


def _trained(
    points: NDArray[np.float64], labels: NDArray[np.int64], hidden: int, seed: int, device: torch.device
) -> nn.Module:
    """The network, trained on all points at once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    net = net.to(device)
    inputs = torch.as_tensor(points, dtype=torch.float32, device=device)
    wanted = torch.as_tensor(labels, device=device)
    optimizer = torch.optim.Adam(net.parameters(), lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(net(inputs), wanted).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)


def _decisions(net: nn.Module, points: NDArray[np.float64], device: torch.device) -> NDArray[np.int64]:
    decided: NDArray[np.int64] = (
        net(torch.as_tensor(points, dtype=torch.float32, device=device)).argmax(1).cpu().numpy()
    )
    return decided


def maps(net: nn.Module, edge: float, side: int, device: torch.device) -> pd.DataFrame:
    """The lengths of the gradients at the points of a grid.

    Args:
        net: maps points (N, 2) to logits (N, 2), `INNER` being the target.
        edge: the grid spans [-edge, edge] in both directions.
        side: points on a side.
        device: where the network is.

    Returns:
        A line for each point, y by y: x, y, softmax_target, space, and for each loss the L2 norm of what an attack
        follows. M-logit is without its end (kappa).
    """
    ticks = torch.linspace(-edge, edge, side, device=device)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    grid = torch.stack([x.flatten(), y.flatten()], dim=1)
    target = torch.full((len(grid),), INNER, device=device)
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "cross_entropy": lambda logits: -functional.cross_entropy(logits, target, reduction="none"),
        "logit": lambda logits: logits[:, INNER],
        "m_logit": lambda logits: logits[:, INNER] - logits[:, OUTER],
    }
    gradients = {name: _gradient(net, grid, loss) for name, loss in losses.items()}
    gradients["cross_entropy_sign"] = gradients["cross_entropy"].sign()
    softmax = net(grid).softmax(dim=1)[:, INNER].cpu().numpy()
    # Squares of small single-precision values would be 0 long before the values are.
    lengths = {name: found.double().norm(dim=1).cpu().numpy() for name, found in gradients.items()}
    spaces = 2 - (softmax <= 1 - SURE).astype(int) + (softmax >= SURE).astype(int)
    places = {"x": grid[:, 0].cpu().numpy(), "y": grid[:, 1].cpu().numpy()}
    return pd.DataFrame({**places, "softmax_target": softmax, "space": spaces, **lengths})


def _gradient(net: nn.Module, points: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient (N, 2) of an objective of the logits, which attacks raise, by the points."""
    inputs = points.clone().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(net(inputs)).sum(), inputs)
    return gradient
