"""What fits into a device's memory."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

_Result = TypeVar("_Result")

# The share of the free memory that rows may take: the estimate of a row is rough, and memory comes in blocks.
_SHARE = 0.8
# Torch's own allocator of a GPU has a class of such errors; a processor's has none, nor have the driver and the
# libraries that ask it themselves.
_MESSAGES = ("DefaultCPUAllocator", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)


def allocated(device: torch.device) -> int:
    """Bytes of tensors on a CUDA device; 0 on others, which do not count them."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def rows_that_fit(row: int, device: torch.device) -> int:
    """How many rows fit into the free memory, at least 1; no bound where the device does not tell.

    Args:
        row: bytes that one row takes while it is worked out.
        device: on which.
    """
    if device.type != "cuda" or row <= 0:
        return sys.maxsize
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds for tensors to come is as good as free.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, int(_SHARE * free) // row)


def in_memory(work: Callable[[int], _Result], size: int) -> _Result:
    """What some work gives with as many things at a time as the memory holds.

    Args:
        work: takes how many things it may have in memory together; tried again from its beginning with half as many
            when memory is used up.
        size: how many at first, at least 1.

    Raises:
        MemoryError: even one at a time does not fit.
    """
    while True:
        try:
            return work(size)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if size <= 1:
                raise MemoryError(f"one at a time does not fit into memory either ({error})") from error
            said = (str(error).splitlines() or [type(error).__name__])[0]
        # Outside of the handler: the error holds on to everything that the work had in memory.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size //= 2
        warnings.warn(f"memory is used up ({said}): goes on with {size} at a time", stacklevel=2)
