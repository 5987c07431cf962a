"""Ends commands whose input is wrong, or whose disk is full, by one line."""

from __future__ import annotations

import errno
import functools
import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import Any

import typer

from wolfe.study.errors import one_line

_log = logging.getLogger("wolfe.cli")
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends a command whose input is wrong with one line and exit code 2; WOLFE_DEBUG=1 shows the traceback."""

    @functools.wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        """Runs the command; every traceback goes to the log."""
        begin = time.perf_counter()
        try:
            command(*arguments, **options)
        except (ValueError, OSError, KeyError) as error:
            _log.error("%s", traceback.format_exc())
            if os.environ.get("WOLFE_DEBUG") == "1":
                raise
            missing = f"{error} is missing in what was given (WOLFE_DEBUG=1 shows where it is needed)"
            typer.echo(f"Error: {one_line(missing if isinstance(error, KeyError) else str(error))}", err=True)
            raise typer.Exit(2) from None
        except typer.Exit:
            raise
        except Exception as error:
            _log.error("%s", traceback.format_exc())
            refused = _refused_by_disk(error)
            if refused is None or os.environ.get("WOLFE_DEBUG") == "1":
                raise
            typer.echo(f"Error: {one_line(str(refused))}", err=True)
            raise typer.Exit(2) from None
        _log.info("finished after %.1f s", time.perf_counter() - begin)

    return guarded


def _refused_by_disk(error: BaseException | None) -> OSError | None:
    """The error of a full or closed disk that another one hides: libraries fail once more as they tidy up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            return error
        error = error.__cause__ or error.__context__
    return None
