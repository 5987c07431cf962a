"""What the jobs of each stage ask a cluster for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def growing(limits: Mapping[str, Any], stage: str, resource: str) -> Callable[[Any, int], int]:
    """What a job asks for at each attempt: as much again as at the one before.

    Args:
        limits: of a resolved study.
        stage: a key of its `resources`.
        resource: "mem_mb" or "runtime" (minutes).

    Returns:
        A function of a job's wildcards and the number of the attempt, from 1 on, as Snakemake calls it.
    """
    once = int(limits["resources"][stage][resource])

    def at(wildcards: Any, attempt: int) -> int:  # noqa: ARG001 (Snakemake tells arguments by their names)
        return attempt * once

    return at
