"""Showing how far a warm-up is: a bar on a terminal, else log lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.progress import BarColumn, Progress, TextColumn

LINE_SECONDS: Final = 5.0
"""Between two lines."""

Show = Callable[[int, int, str], None]
"""Takes the shapes done, their total and both in words."""

log = logging.getLogger(__name__)


@contextmanager
def shown_warmup(clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """Show until the end of the block what the yielded function is told."""
    if sys.stdout.isatty():
        columns = (TextColumn("warming up"), BarColumn(bar_width=None), TextColumn("{task.description}"))
        with Progress(*columns, transient=True, expand=True) as bar:  # the bar takes what the words leave
            task = bar.add_task("", total=None)
            yield lambda done, total, text: bar.update(task, completed=done, total=total, description=text)
    else:
        yield _Lines(clock).show


class _Lines:
    """One log line at first, and then at most one every few seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: float | None = None

    def show(self, _done: int, _total: int, text: str) -> None:
        now = self._clock()
        if self._told is None or now - self._told >= LINE_SECONDS:
            self._told = now
            log.info("warming up: %s", text)
