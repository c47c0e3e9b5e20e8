"""The thread between the hot path and the judge: a bounded queue of rows, and what came of them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import numpy as np

from runtime.backend import Images
from runtime.shadow.apart import ShadowEnded, ShadowFailed
from runtime.shadow.judge import Judgement, Pictures, Question
from runtime.shadow.wrapper import Drop, Followed
from runtime.telemetry.metrics import Metrics

WAITING: Final = 4
"""Rows that wait to be compared; one more is dropped."""

log = logging.getLogger(__name__)


class AnyJudge(Protocol):
    """`Judge`, here or apart."""

    def judged(self, question: Question) -> Judgement: ...

    def close(self) -> None: ...


class Comparer:
    """The `Comparing` of a server: methods are called on the device thread, the work is done on one of its own."""

    def __init__(self, start: Callable[[], AnyJudge], metrics: Metrics) -> None:
        """`start` is called once, on the thread, when there is a row to compare."""
        self._start = start
        self._metrics = metrics
        self._judge: AnyJudge | None = None
        self._rows: queue.Queue[Followed | None] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        """Between the start of the judge and the end of the server."""
        self._closed = False
        self._thread = threading.Thread(target=self._main, name="shadow", daemon=True)

    def start(self) -> None:
        """Begin to take rows."""
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a row would be dropped now."""
        return self._rows.full()

    def put(self, row: Followed) -> None:
        """Have a row compared, or drop it."""
        try:
            self._rows.put_nowait(row)
        except queue.Full:
            self.drop("busy")

    def drop(self, reason: Drop) -> None:
        """Count a row that was to be compared and is not."""
        self._metrics.shadow_dropped.labels(reason).inc()

    def close(self) -> None:
        """End at once, whatever is being compared; safe to call twice."""
        with self._lock:
            self._closed = True
        if self._judge is not None:
            self._judge.close()
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._rows.put_nowait(None)
            self._thread.join(0.01)  # it takes what is in the queue, and compares none of it

    def _main(self) -> None:
        while (row := self._rows.get()) is not None and not self._closed:
            try:
                self._compare(row, self._started())
            except ShadowFailed as error:
                log.warning("the shadow could not compute a row: %s", error)
                self.drop("failed")
            except ShadowEnded as error:
                self._give_up(error)
                break
        while (row := None if self._closed else self._rows.get()) is not None:
            self.drop("failed")

    def _give_up(self, error: ShadowEnded) -> None:
        if not self._closed:
            log.error("no more rows are compared with the shadow: %s", error)
            self.drop("failed")

    def _started(self) -> AnyJudge:
        with self._lock:
            if self._closed:
                raise ShadowEnded("the server is stopping")
            if self._judge is None:
                self._judge = self._start()
            return self._judge

    def _compare(self, row: Followed, judge: AnyJudge) -> None:
        """Ask for every step of a row, and tell of the first token that rounding does not explain."""
        prompt = tuple(row.prompt.tokens)
        told = False
        for step, logits in enumerate(row.logits):
            begins = step == 0
            question = Question(
                tokens=prompt if begins else (row.reply[step - 1],),
                logits=logits.float().numpy(),
                dtype=row.dtype,
                begins=begins,
                pictures=_pictures(row.prompt.images) if begins else None,
            )
            judgement = judge.judged(question)
            self._metrics.tell_shadow(judgement.kl, judgement.error, _margin(judgement))
            difference = judgement.difference
            if difference is not None and not difference.is_noise and not told:
                told = True
                log.warning(
                    "slot %d, position %d: the backend has token %d, the shadow %d by a margin of %.3g, where rounding "
                    "explains %.2g; see docs/shadow.md",
                    *(row.slot, difference.position, difference.got, difference.wanted),
                    *(difference.margin, difference.allowed),
                )


def _margin(judgement: Judgement) -> str | None:
    if judgement.difference is None:
        return None
    return "rounding" if judgement.difference.is_noise else "large"


def _pictures(images: Images | None) -> Pictures | None:
    if images is None:
        return None
    return Pictures(images.tiles.numpy().astype(np.float32, copy=False), images.counts, images.sizes, images.digests)
