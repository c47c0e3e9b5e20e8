"""Measuring one request from its arrival to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import InvalidRequest, Overloaded, RuntimeServiceError, TemplateError
from runtime.runtime import Completion, Delta
from runtime.telemetry.metrics import Metrics


class RequestWatch:
    """Records the tokens of one request as they come; used on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._arrived = self._last = time.monotonic()
        self._started = False

    def admitted(self, max_new_tokens: int) -> None:
        """Record what an accepted request asks for."""
        self._metrics.max_new_tokens.observe(max_new_tokens)

    def delta(self, delta: Delta) -> None:
        """Record new tokens, and with the last of them the whole request."""
        now = time.monotonic()
        if not self._started:
            self._started = True
            self._metrics.time_to_first_token.observe(now - self._arrived)
        else:
            self._metrics.inter_token_latency.observe((now - self._last) / len(delta.tokens))
        self._last = now
        if delta.completion is not None:
            self._completed(delta.completion)

    def _completed(self, completion: Completion) -> None:
        metrics, timings = self._metrics, completion.timings
        metrics.request_success.inc()
        metrics.input_length.observe(completion.prompt_tokens)
        metrics.generated_tokens.observe(completion.generated_tokens)
        metrics.skipped_tokens.observe(0)
        if timings is not None:
            metrics.request_duration.observe(timings.total)
            metrics.validation_duration.observe(timings.validation)
            metrics.queue_duration.observe(timings.queue)
            metrics.inference_duration.observe(timings.inference)
            metrics.time_per_token.observe(timings.inference / completion.generated_tokens)


@contextmanager
def watched(metrics: Metrics) -> Iterator[RequestWatch]:
    """Count a request, and its failure by TGI's causes."""
    metrics.request_count.inc()
    try:
        yield RequestWatch(metrics)
    except RuntimeServiceError as error:
        metrics.request_failure.labels(_cause(error)).inc()
        raise


def _cause(error: RuntimeServiceError) -> str:
    match error:
        case Overloaded():
            return "overloaded"
        case TemplateError():
            return "template"
        case InvalidRequest():
            return "validation"
    return "generation"
