"""Prometheus metrics of the worker: TGI's names, labels and buckets, and ours under `runtime_`.

Thread-safe: the device thread and the event loop both record. TGI's names (router/src/server.rs) have no unit and no
`_total`. What each means to an operator is told in `docs/monitoring.md`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from runtime.errors import BackendError
from runtime.telemetry.fetches import Fetches
from runtime.telemetry.pictures import PictureCost
from runtime.telemetry.registry import Registry

FAILURES: Final = ("overloaded", "validation", "template", "incomplete", "generation", "dropped")
METHODS: Final = ("prefill", "decode")
REFUSALS: Final = ("concurrency", "queue_full", "predicted_wait", "deadline")
CONCAT_REASONS: Final = ("backpressure", "wait_exceeded")
IMAGE_STAGES: Final = ("fetch", "decode", "tile", "encode", "prefill")
SHADOW_DROPS: Final = ("busy", "unknown", "failed")
SHADOW_MARGINS: Final = ("rounding", "large")
KL: Final = tuple(10.0**power for power in range(-9, 2))
"""Bucket bounds, nats."""
MULTIPLES: Final = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
"""Bucket bounds of errors in multiples of the noise, of which 4 are allowed."""
LARGEST_BATCH: Final = 1024
"""Requests; TGI has no bucket for more."""
SHARES: Final = tuple(step / 20 for step in range(21))
IMAGE_TOKENS: Final = tuple(256 * step for step in range(1, 17))
"""Bucket bounds of the tokens of one picture; LLaVA-NeXT makes up to 2928 of one."""


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

    def __init__(self, max_input_tokens: int, max_total_tokens: int, max_batch_size: int) -> None:
        self._registry = registry = Registry()
        counter, gauge, duration, histogram = registry.counter, registry.gauge, registry.duration, registry.histogram
        self.request_count = counter("tgi_request_count", "Requests that came.")
        self.request_success = counter("tgi_request_success", "Requests answered to the end.")
        self.request_failure = counter("tgi_request_failure", "Requests that were not, by cause.", err=FAILURES)
        self.requests_refused = counter(
            "runtime_requests_refused", "Requests that there was no room or no time for.", reason=REFUSALS
        )
        self.predicted_wait = gauge(
            "runtime_predicted_wait_seconds", "What a request that came now would wait for its row, seconds."
        )
        self.request_duration = duration("tgi_request_duration", "From arrival to the last token, seconds.")
        self.validation_duration = duration("tgi_request_validation_duration", "From arrival to the queue, seconds.")
        self.queue_duration = duration("tgi_request_queue_duration", "In the queue, seconds.")
        self.inference_duration = duration("tgi_request_inference_duration", "From prefill to the end, seconds.")
        self.time_per_token = duration("tgi_request_mean_time_per_token_duration", "Inference per token, seconds.")
        self.input_length = histogram("tgi_request_input_length", "Tokens of prompts.", _hundred(max_input_tokens))
        self.max_new_tokens = histogram("tgi_request_max_new_tokens", "Tokens asked for.", _hundred(max_total_tokens))
        self.generated_tokens = histogram(
            "tgi_request_generated_tokens", "Tokens generated.", _hundred(max_total_tokens)
        )
        self.skipped_tokens = registry.summary("tgi_request_skipped_tokens", "Tokens saved by speculation: always 0.")
        self.next_batch_size = histogram(
            "tgi_batch_next_size", "Requests of each prefill.", range(1, min(max_batch_size, LARGEST_BATCH) + 1)
        )
        self.batch_size = gauge("tgi_batch_current_size", "Requests that decode now.")
        self.batch_tokens = gauge("tgi_batch_current_max_tokens", "Tokens the running requests may come to.")
        self.batch_token_limit = gauge("tgi_batch_max_total_tokens", "Tokens running requests may come to.")
        self.queue_size = gauge("tgi_queue_size", "Requests that wait for a row.")
        self.step_count = counter("tgi_batch_inference_count", "Steps begun.", method=METHODS)
        self.step_success = counter("tgi_batch_inference_success", "Steps that went well.", method=METHODS)
        self.step_failure = counter("tgi_batch_inference_failure", "Steps that failed.", method=METHODS)
        self.step_duration = duration("tgi_batch_inference_duration", "Whole steps, seconds.", method=METHODS)
        self.forward_duration = duration(
            "tgi_batch_forward_duration", "In the backend's hook, seconds.", method=METHODS
        )
        self.decode_duration = duration("tgi_batch_decode_duration", "Choosing and text, seconds.", method=METHODS)
        self.filter_duration = duration(
            "tgi_batch_filter_duration", "Releasing the rows that a step ended, seconds.", method=METHODS
        )
        self.concat_count = counter(
            "tgi_batch_concat", "Prefills that running requests waited for.", reason=CONCAT_REASONS
        )
        self.concat_duration = duration(
            "tgi_batch_concat_duration", "Putting prompts into the running batch, seconds.", method=("decode",)
        )  # the label as in TGI, where the decode call concatenates
        self.time_to_first_token = duration("runtime_time_to_first_token_seconds", "From arrival, seconds.")
        self.inter_token_latency = duration("runtime_inter_token_latency_seconds", "Between two tokens, seconds.")
        self.queue_age = gauge("runtime_queue_age_seconds", "Age of the oldest request that waits for a row, seconds.")
        self.rows_used = gauge("runtime_rows_used", "Slots that hold a sequence.")
        self.rows = gauge("runtime_rows", "Slots there are.")
        self.padding_share = histogram("runtime_prefill_padding_share", "Share of padding in each prefill.", SHARES)
        self.images = counter("runtime_images", "Pictures of prompts.")
        self.image_tiles = counter("runtime_image_tiles", "Tiles that pictures were cut into.")
        self.image_tokens = histogram("runtime_image_tokens", "Tokens of each picture.", IMAGE_TOKENS)
        self.image_stage = duration(
            "runtime_image_stage_seconds",
            "Stages of pictures, seconds. fetch, decode, tile: of each picture. prefill: the whole hook of each prefill"
            " with pictures; encode: what the backend says the vision tower took of it, if it does.",
            stage=IMAGE_STAGES,
        )
        self.fetches = Fetches(registry)
        self.prefix_reused_tokens = counter(
            "runtime_prefix_reused_tokens", "Tokens of prompts that were not computed again."
        )
        self.backend_stat = registry.gauges("runtime_backend_stat", "Counted by the backend, by its own names.", "name")
        self.shadow_compared = counter("runtime_shadow_compared", "Steps of rows that the shadow computed again.")
        self.shadow_dropped = counter(
            "runtime_shadow_dropped", "Rows that were to be compared and are not, by cause.", reason=SHADOW_DROPS
        )
        self.shadow_disagreements = counter(
            "runtime_shadow_disagreements", "Steps whose likeliest token is another.", margin=SHADOW_MARGINS
        )
        self.shadow_kl = histogram("runtime_shadow_kl", "KL divergence of each compared step, nats.", KL)
        self.shadow_error = histogram(
            "runtime_shadow_error", "Error of each compared step, in multiples of the noise of rounding.", MULTIPLES
        )
        self.shadow_largest_error = gauge("runtime_shadow_largest_error", "The largest of these errors.")
        self._largest_error = 0.0
        self.warmup_seconds = gauge("runtime_warmup_seconds", "What the warm-up has taken, seconds.")
        self.warmup_shapes = registry.gauges("runtime_warmup_shapes", "Shapes of the plan, by state.", "state")
        self.tell_warmup(0, 0, 0.0)
        self._oldest: float | None = None
        self.queue_age.set_function(self._queue_age)

    @contextmanager
    def step(self, method: str) -> Iterator[None]:
        """Count and time one step of the backend; BackendError makes it a failed one."""
        self.step_count.labels(method).inc()
        started = time.perf_counter()
        try:
            yield
        except BackendError:
            self.step_failure.labels(method).inc()
            raise
        self.step_success.labels(method).inc()
        self.step_duration.labels(method).observe(time.perf_counter() - started)

    def tell_rows(self, slots: Slots, waiting: int, oldest: float | None) -> None:
        """Set the gauges of who holds what and who waits; `oldest` was queued then, on the monotonic clock."""
        self._oldest = oldest
        used = slots.count - slots.free_count
        self.batch_size.set(used)
        self.rows_used.set(used)
        self.batch_tokens.set(slots.tokens - slots.free_tokens)
        self.queue_size.set(waiting)

    def tell_pictures(self, pictures: Sequence[PictureCost]) -> None:
        """Record what the pictures of one prompt took."""
        for picture in pictures:
            self.images.inc()
            self.image_tiles.inc(picture.tiles)
            self.image_tokens.observe(picture.tokens)
            for stage, seconds in picture.seconds.items():
                self.image_stage.labels(stage).observe(seconds)

    def tell_shadow(self, kl: float, error: float, margin: str | None) -> None:
        """Record one compared step, on the one thread that does; `margin` is None where the tokens agree."""
        self.shadow_compared.inc()
        self.shadow_kl.observe(kl)
        self.shadow_error.observe(error)
        self._largest_error = max(self._largest_error, error)
        self.shadow_largest_error.set(self._largest_error)
        if margin is not None:
            self.shadow_disagreements.labels(margin).inc()

    def tell_warmup(self, done: int, total: int, seconds: float) -> None:
        """Set how far the warm-up is."""
        self.warmup_seconds.set(seconds)
        self.warmup_shapes.labels("warmed").set(done)
        self.warmup_shapes.labels("left").set(total - done)

    def tell_backend(self, stats: Mapping[str, float]) -> None:
        """Set what the backend counts."""
        for name, value in stats.items():
            self.backend_stat.labels(name).set(value)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return self._registry.exposition()

    def _queue_age(self) -> float:
        """Asked at each scrape, so that it grows while the device is in the middle of a long step."""
        oldest = self._oldest
        return 0.0 if oldest is None else time.monotonic() - oldest


def _hundred(limit: int) -> Sequence[float]:
    """Return the hundred even bucket bounds up to a limit of tokens."""
    return [limit * step / 100 for step in range(1, 101)]
