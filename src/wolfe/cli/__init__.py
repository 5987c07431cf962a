"""The command line: one command for each stage of the pipeline, and some for a person at a terminal.

Every stage reads and writes the files that its options name and nothing else, so that any of them can be run again
alone. torch is imported only inside the commands that need it.
"""

from __future__ import annotations

from wolfe.cli import stages, terminal
from wolfe.cli.app import app

__all__ = ["app", "main", "stages", "terminal"]


def main() -> None:
    """Runs the command line."""
    app(prog_name="wolfe")
