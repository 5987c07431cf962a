"""Single precision that is kept: no autocast and no TF32, whatever is set around a call."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.backends import cuda, cudnn, mkldnn

_FULL = "ieee"


@contextmanager
def full_precision(devices: Iterable[str]) -> Iterator[None]:
    """No autocast on these kinds of devices and no TF32 or bfloat16 inside of float32 operations; afterwards as before.

    Tensors keep their types: a network whose parameters are bfloat16 computes in bfloat16. The settings of float32
    operations are the process's: other threads see them too.

    Args:
        devices: "cpu", "cuda".
    """
    with ExitStack() as stack:
        for device in sorted(filter(torch.amp.is_autocast_available, set(devices))):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(_full_float32())
        yield


def _settings() -> list[Any]:
    """Objects with a `fp32_precision`."""
    return [cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]  # type: ignore[attr-defined]


@contextmanager
def _full_float32() -> Iterator[None]:
    """Torch has two interfaces to the same settings, and reading one raises where the other has been set differently.

    So both say the same inside, and get back what each of them said.
    """
    settings = _settings()
    precisions = [setting.fp32_precision for setting in settings]
    convolutions = _legacy_convolutions()
    _set(settings, [_FULL] * len(settings))
    # It can be read from here on, because no setting allows more than it.
    products = torch.get_float32_matmul_precision()
    _set_legacy("highest", None if convolutions is None else False)
    # Without TF32 the older interface leaves a setting to torch's general one, which may allow it.
    _set(settings, [_FULL] * len(settings))
    try:
        yield
    finally:
        _set_legacy(products, convolutions)
        _set(settings, precisions)


def _set(settings: list[Any], precisions: list[str]) -> None:
    for setting, precision in zip(settings, precisions, strict=True):
        setting.fp32_precision = precision


def _legacy_convolutions() -> bool | None:
    """What the older interface says of TF32 in convolutions; None where it cannot tell."""
    try:
        return bool(cudnn.allow_tf32)
    except RuntimeError:
        return None


def _set_legacy(products: str, convolutions: bool | None) -> None:
    """Sets the older interface, silently: some versions of torch advise against it at its first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            cudnn.allow_tf32 = convolutions
