"""Telling how far a download is."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

BAR_SECONDS: Final = 0.2
LINE_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


@contextmanager
def told_progress(total: int, arrived: Callable[[], int]) -> Iterator[None]:
    """Tell until the end of the block how many of `total` bytes have arrived: a bar on a terminal, else log lines.

    `arrived` is called on a thread of its own.
    """
    if sys.stdout.isatty():
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as bar:
            task = bar.add_task("", total=total)
            with _repeated(BAR_SECONDS, lambda: bar.update(task, completed=min(arrived(), total))):
                yield
    else:
        lines = _Lines(total, arrived)
        with _repeated(LINE_SECONDS, lines.tell):
            yield


class _Lines:
    """One log line per call, with the speed since the call before."""

    def __init__(self, total: int, arrived: Callable[[], int]) -> None:
        self._total = total
        self._arrived = arrived
        self._before = arrived()
        self._then = time.monotonic()

    def tell(self) -> None:
        arrived, now = min(self._arrived(), self._total), time.monotonic()
        speed = max(0, arrived - self._before) / (now - self._then)
        self._before, self._then = arrived, now
        log.info("fetched %s of %s, %s/s", decimal(arrived), decimal(self._total), decimal(int(speed)))


@contextmanager
def _repeated(seconds: float, work: Callable[[], None]) -> Iterator[None]:
    """Do `work` every few seconds until the end of the block."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
