"""What a forked child does: one command of the command line, ended at a chosen write if that is asked for.

The server that forks the children imports this module, and with it everything that the stages import.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets  # noqa: F401 (loaded once, by the server)
import lightning.pytorch  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import torch

import wolfe.data.image_set
import wolfe.experiments.attack_run
import wolfe.models
import wolfe.report.figures
import wolfe.report.tables
import wolfe.verification  # noqa: F401
from wolfe.cli import app

torch.set_num_threads(1)


def work(folder: Path, arguments: list[str], said: Path, write: int | None, rightless: bool) -> None:
    """Runs a command in a folder; ends the process as the command line ends.

    Args:
        folder: its working folder.
        arguments: of the command line.
        said: what takes its output.
        write: the process kills itself before this one of its files or folders takes its name, counted from 1; with 0
            it says at its end how many there were.
        rightless: permissions hold for it even where it is root's.
    """
    os.chdir(folder)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if write is not None:
        os.replace = _counted(os.replace, write)
    if rightless:
        _give_up_rights()
    sys.argv = ["wolfe", *arguments]
    try:
        app(arguments, prog_name="wolfe")
    finally:
        if write == 0:
            print(f"\n{os.replace.count} writes", flush=True)


def _give_up_rights() -> None:
    """Gives up all capabilities: root then reads and writes what its owner may, its own libraries among it."""
    third_version, values = 0x20080522, 6
    nothing = (ctypes.c_uint32 * values)()
    if ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(third_version, 0), nothing):
        raise OSError("capabilities cannot be given up")


def _counted(replace: Callable[..., None], fatal: int) -> Any:
    def counted(*names: Any, **options: Any) -> None:
        counted.count += 1
        if counted.count == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*names, **options)

    counted.count = 0
    return counted
