"""Ends commands whose input is wrong, or that the machine refuses something, by one line."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from wolfe.study.errors import one_line

_log = logging.getLogger("wolfe.cli")
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Libraries that are not written in Python (safetensors) have errors of their own, with the system's number in words.
_IN_WORDS = re.compile(r"\(os error \d+\)")


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends a command as `told_in_one_line` does; the log says how long one took that went well."""

    @functools.wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        """Runs the command."""
        begin = time.perf_counter()
        with told_in_one_line():
            command(*arguments, **options)
        _log.info("finished after %.1f s", time.perf_counter() - begin)

    return guarded


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Ends the program with one line: exit code 2 where input is wrong, a disk is full or memory is used up.

    The log has the same line: Snakemake shows it where a job fails. What nobody has foreseen ends with exit code 1, and
    its traceback is in the log. WOLFE_DEBUG=1 shows all tracebacks.
    """
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        line, debugging = _explained(error), os.environ.get("WOLFE_DEBUG") == "1"
        _log.error("%s", traceback.format_exc() if line is None or debugging else line)
        if debugging:
            raise
        unforeseen = f"{type(error).__name__}: {error} (this should not happen: WOLFE_DEBUG=1 shows where it does)"
        typer.echo(f"Error: {one_line(unforeseen) if line is None else line}", err=True)
        raise typer.Exit(1 if line is None else 2) from None


def _explained(error: Exception) -> str | None:
    """An error in one line; None for one that nobody has foreseen."""
    if isinstance(error, KeyError):
        return one_line(f"{error} is missing in what was given (WOLFE_DEBUG=1 shows where it is needed)")
    said = str(error) if isinstance(error, ValueError | OSError) else _refused(error)
    return None if said is None else one_line(said)


def _refused(error: BaseException | None) -> str | None:
    """What the machine said in refusing disk or memory; libraries that tidy up after that fail once more."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _OF_DISKS) or _IN_WORDS.search(str(error)):
            return str(error)
        if _out_of_memory(error):
            return f"memory is used up: {str(error) or type(error).__name__}"
        error = error.__cause__ or error.__context__
    return None


def _out_of_memory(error: BaseException) -> bool:
    # What knows the words of torch loads torch; where nobody has loaded it, it has said nothing.
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from wolfe.linear.memory import out_of_memory

    return out_of_memory(error)
