"""What the measurements were taken on: it stands in every file."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.settings import Settings

_PACKAGES = ("torch", "numpy", "scipy", "timm", "clarabel", "adv-lib", "foolbox", "torchattacks")


def load() -> str:
    """Processes that want to run, averaged over 1, 5 and 15 minutes, and the number of cores."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    averages = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{averages} on {os.cpu_count()} cores"


def device_name(device: str) -> str:
    """The processor's or the graphics card's own name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    description = Path("/proc/cpuinfo")
    if description.is_file():
        for line in description.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def facts(settings: Settings, before: str) -> dict[str, str]:
    """What every file says of its origin, in this order.

    Args:
        settings: of the run.
        before: the load before the measurement; the load after it is taken now.
    """
    return {
        "command": settings.command,
        "device": f"{settings.device}: {device_name(settings.device)}",
        "threads": str(settings.threads),
        "versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
        + f", python {platform.python_version()}",
        "load before": before,
        "load after": load(),
        "kind": "quick look, not for reporting" if settings.quick else "whole run",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
