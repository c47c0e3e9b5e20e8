"""Prometheus metrics of the worker: TGI's names, labels and buckets, and ours under `runtime_`.

Thread-safe: the device thread and the event loop both record. Names as in TGI (router/src/server.rs): they have no
unit and no `_total`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # TGI has none

DURATIONS: Final = tuple(0.00015 * 1.5**step for step in range(35))
"""Bucket bounds of every duration, seconds."""
SIZES: Final = tuple(2.0**power for power in range(11))
"""Bucket bounds of batch sizes, 1 to 1024 rows."""
SHARES: Final = tuple(step / 20 for step in range(21))
_TGI_COUNTER: Final = re.compile(rb"\b(tgi_\w+?)_total\b(?=[ {])")


def steps(limit: int) -> Sequence[float]:
    """Return the hundred even bucket bounds up to a limit of tokens."""
    return [limit * step / 100 for step in range(1, 101)]


class Slots(Protocol):
    """What the gauges read of a slot table."""

    @property
    def count(self) -> int: ...

    @property
    def free_count(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def free_tokens(self) -> int: ...


class Metrics:
    """All metrics of one worker; each is an attribute, recorded where the fact is known."""

    def __init__(self, max_input_tokens: int, max_total_tokens: int) -> None:
        self._registry = CollectorRegistry()
        counter, duration = self._counter, self._duration
        self.request_count = counter("tgi_request_count", "Requests that came.")
        self.request_success = counter("tgi_request_success", "Requests answered to the end.")
        self.request_failure = counter("tgi_request_failure", "Requests that failed, by cause.", "err")
        self.request_duration = duration("tgi_request_duration", "From arrival to the last token, seconds.")
        self.validation_duration = duration("tgi_request_validation_duration", "From arrival to the queue, seconds.")
        self.queue_duration = duration("tgi_request_queue_duration", "In the queue, seconds.")
        self.inference_duration = duration("tgi_request_inference_duration", "From prefill to the end, seconds.")
        self.time_per_token = duration("tgi_request_mean_time_per_token_duration", "Inference per token, seconds.")
        self.input_length = self._histogram("tgi_request_input_length", "Tokens of prompts.", steps(max_input_tokens))
        self.max_new_tokens = self._histogram(
            "tgi_request_max_new_tokens", "Tokens asked for.", steps(max_total_tokens)
        )
        self.generated_tokens = self._histogram(
            "tgi_request_generated_tokens", "Tokens generated.", steps(max_total_tokens)
        )
        self.skipped_tokens = self._histogram(
            "tgi_request_skipped_tokens", "Tokens saved by speculation: always 0.", [0.0]
        )
        self.next_batch_size = self._histogram("tgi_batch_next_size", "Requests of each prefill.", SIZES)
        self.batch_size = self._gauge("tgi_batch_current_size", "Requests that decode now.")
        self.batch_tokens = self._gauge("tgi_batch_current_max_tokens", "Tokens the running requests may come to.")
        self.batch_token_limit = self._gauge("tgi_batch_max_total_tokens", "Tokens running requests may come to.")
        self.queue_size = self._gauge("tgi_queue_size", "Requests that wait for a row.")
        self.step_count = counter("tgi_batch_inference_count", "Steps begun.", "method")
        self.step_success = counter("tgi_batch_inference_success", "Steps that went well.", "method")
        self.step_failure = counter("tgi_batch_inference_failure", "Steps that failed.", "method")
        self.step_duration = duration("tgi_batch_inference_duration", "Whole steps, seconds.", "method")
        self.forward_duration = duration("tgi_batch_forward_duration", "In the backend's hook, seconds.", "method")
        self.decode_duration = duration("tgi_batch_decode_duration", "Choosing and text, seconds.", "method")
        self.time_to_first_token = duration("runtime_time_to_first_token_seconds", "From arrival, seconds.")
        self.inter_token_latency = duration("runtime_inter_token_latency_seconds", "Between two tokens, seconds.")
        self.rows_used = self._gauge("runtime_rows_used", "Slots that hold a sequence.")
        self.rows = self._gauge("runtime_rows", "Slots there are.")
        self.padding_share = self._histogram(
            "runtime_prefill_padding_share", "Share of padding in each prefill.", SHARES
        )

    def tell_rows(self, slots: Slots, waiting: int) -> None:
        """Set the gauges of who holds what."""
        used = slots.count - slots.free_count
        self.batch_size.set(used)
        self.rows_used.set(used)
        self.batch_tokens.set(slots.tokens - slots.free_tokens)
        self.queue_size.set(waiting)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return _TGI_COUNTER.sub(rb"\1", generate_latest(self._registry))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry)

    def _duration(self, name: str, meaning: str, *labels: str) -> Histogram:
        return Histogram(name, meaning, labels, registry=self._registry, buckets=DURATIONS)

    def _histogram(self, name: str, meaning: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, meaning, registry=self._registry, buckets=buckets)
