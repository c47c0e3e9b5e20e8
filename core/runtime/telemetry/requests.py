"""Following one request from its arrival to its end: into the metrics, and into one line of the log.

The line holds numbers and names only, and of an error its class, for its message may quote the request.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from runtime.errors import InvalidRequest, NotReady, Overloaded, TemplateError
from runtime.runtime import Delta, GenerateRequest, SamplingParameters, Timings
from runtime.telemetry.logs import log_facts
from runtime.telemetry.metrics import Metrics
from runtime.telemetry.pictures import PictureCost
from runtime.telemetry.request_facts import parameters_of, seconds_of

log = logging.getLogger(__name__)


class Submitted(Protocol):
    """What a watch reads of a request that is in the engine."""

    @property
    def seed(self) -> int: ...

    @property
    def sampling(self) -> SamplingParameters: ...

    def timings(self, now: float) -> Timings: ...


class RequestWatch:
    """Follows one request, as the context it is served in; used on the event loop."""

    def __init__(self, metrics: Metrics, request: GenerateRequest) -> None:
        self._metrics = metrics
        self._request = request
        self.arrived = self._last = time.monotonic()
        """Seconds of the monotonic clock."""
        self._facts: dict[str, Any] = {}
        self._row: Submitted | None = None
        self._generated = 0
        self._ended = False

    def __enter__(self) -> RequestWatch:
        self._metrics.request_count.inc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the failure; a reply that is complete cannot fail any more, whatever becomes of its reader."""
        if error is not None and not self._ended:
            self._fail(error)

    def prepared(self, prompt_tokens: int, pictures: Sequence[PictureCost]) -> None:
        """Note what the prompt came to."""
        self._facts = {
            "prompt_tokens": prompt_tokens,
            "images": len(pictures),
            "image_tokens": sum(picture.tokens for picture in pictures),
        }

    def submitted(self, row: Submitted, max_new_tokens: int) -> None:
        """Record what an accepted request asks for."""
        self._row = row
        self._metrics.max_new_tokens.observe(max_new_tokens)

    def delta(self, delta: Delta) -> None:
        """Record new tokens, and with the last of them the whole request."""
        now = time.monotonic()
        if self._generated == 0:
            self._metrics.time_to_first_token.observe(now - self.arrived)
        else:
            self._metrics.inter_token_latency.observe((now - self._last) / len(delta.tokens))
        self._last = now
        self._generated += len(delta.tokens)
        if delta.completion is not None:
            cost = delta.completion.cost
            self._facts |= {"cached_tokens": cost.cached_tokens, "padding": cost.padding}
            timings = delta.completion.timings or self._timings()
            self._succeed(delta.completion.prompt_tokens, timings)
            self._tell(logging.INFO, "Success", timings, finish_reason=delta.completion.finish_reason.value)

    def _succeed(self, prompt_tokens: int, timings: Timings | None) -> None:
        metrics = self._metrics
        metrics.request_success.inc()
        metrics.input_length.observe(prompt_tokens)
        metrics.generated_tokens.observe(self._generated)
        metrics.skipped_tokens.observe(0)
        if timings is not None:
            metrics.request_duration.observe(timings.total)
            metrics.validation_duration.observe(timings.validation)
            metrics.queue_duration.observe(timings.queue)
            metrics.inference_duration.observe(timings.inference)
            metrics.time_per_token.observe(timings.inference / self._generated)

    def _fail(self, error: BaseException) -> None:
        cause = self._cause(error)
        self._metrics.request_failure.labels(cause).inc()
        if cause == "dropped":
            self._tell(logging.INFO, "Dropped", self._timings())
        else:  # what is wrong with a request is its sender's matter
            level = logging.INFO if isinstance(error, InvalidRequest) else logging.WARNING
            self._tell(level, "Failure", self._timings(), error=type(error).__name__, cause=cause)

    def _cause(self, error: BaseException) -> str:
        """Return the cause by TGI's names."""
        match error:
            case GeneratorExit() | asyncio.CancelledError():
                return "dropped"
            case Overloaded():
                return "overloaded"
            case TemplateError():
                return "template"
            case InvalidRequest():
                return "validation"
            case NotReady() if self._row is not None:
                return "incomplete"
        return "generation"

    def _timings(self) -> Timings | None:
        return None if self._row is None else self._row.timings(time.monotonic())

    def _tell(self, level: int, message: str, timings: Timings | None, **end: str) -> None:
        self._ended = True
        facts: dict[str, Any] = {"request_id": secrets.token_hex(8), **end, **self._facts}
        facts["generated_tokens"] = self._generated
        if timings is None:
            facts["total_time"] = round(time.monotonic() - self.arrived, 6)
        else:
            facts |= seconds_of(timings, self._generated)
        if self._row is not None and self._row.sampling.draws:
            facts["seed"] = self._row.seed
        facts["parameters"] = parameters_of(self._request)
        log_facts(log, level, message, facts)
