"""The command line's door: its name, the log, and what every command begins with."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from wolfe.cli.errors import told_in_one_line

app = typer.Typer(
    name="wolfe",
    help="Nearly optimal targeted adversarial examples for any output encoding.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_log = logging.getLogger("wolfe.cli")
# Without --log the traceback goes nowhere; logging would print it on stderr else.
logging.getLogger("wolfe").addHandler(logging.NullHandler())


@app.callback()
def _options(
    log: Annotated[Path | None, typer.Option(help="File for messages and errors; progress stays on stderr.")] = None,
) -> None:
    if log is not None:
        with told_in_one_line():
            _open_log(log)


def _open_log(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It would wait for somebody who reads.
        if path.is_fifo() and not path.is_symlink():
            raise ValueError(f"--log: {path} is a pipe: name a file")
        handler = _LogFile(path, mode="w", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--log: no file can be written at {path} ({error.strerror})") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("wolfe", "py.warnings", "lightning", "lightning.pytorch"):
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("wolfe").setLevel(logging.INFO)
    logging.captureWarnings(True)
    _log.info("wolfe %s", " ".join(sys.argv[1:]))


class _LogFile(logging.FileHandler):
    """A log whose disk may be full: what matters is on stderr too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (a name of the library's)
        """Says nothing."""
