"""What fits into a device's memory."""

from __future__ import annotations

import sys

import torch

# The share of the free memory that rows may take: the estimate of a row is rough, and memory comes in blocks.
_SHARE = 0.8
_CPU_MESSAGES = ("DefaultCPUAllocator", "not enough memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up; a processor's allocator has no class of its own for that."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _CPU_MESSAGES)


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
