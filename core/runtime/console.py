"""Where commands print their reports."""

from __future__ import annotations

from typing import Final

from rich.console import Console

WIDTH: Final = 120
"""Columns where nobody says how wide the output is: a file, or a log of CI."""


def report_console() -> Console:
    """Return the console of standard output: as wide as its terminal, else WIDTH."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
