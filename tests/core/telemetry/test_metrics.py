"""What a scrape tells after some traffic: all that TGI told, and ours."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import torch
from runtime.backend import Images, PrefillBatch, PrefillOutput
from runtime.budgets import Budgets
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded, TemplateError
from runtime.hookspecs import hookimpl
from runtime.runtime import GenerateRequest, StepRequest, TokensPart
from runtime.telemetry.pictures import PictureCost
from support.arithmetic import FAILS, FAILS_LATER, ArithmeticBackend
from support.gated import ONE_ROW, GatedBackend, submissions
from support.scrape import Metric, read_scrape
from support.serving import LIMITS, MODEL, TokenPrompt, arithmetic_runtime, reply, tokens_request

pytestmark = pytest.mark.anyio

PICTURE, NO_TEMPLATE = 393, 394
"""Ids that stand for a picture, and for messages that a template refuses."""
ENCODING = 0.25
"""Seconds that the backend says a picture takes."""
BOTH = {"prefill", "decode"}
SECONDS = tuple(0.00015 * 1.5**step for step in range(35))

# Section by section the metrics of TGI 2.3.1 (router/src/server.rs, infer.rs, queue.rs): type, label, its values.
TGI: dict[str, tuple[str, str, set[str]]] = {
    "tgi_request_count": ("counter", "", set()),
    "tgi_request_success": ("counter", "", set()),
    "tgi_request_failure": (
        "counter",
        "err",
        {"overloaded", "validation", "template", "incomplete", "generation", "dropped"},
    ),
    "tgi_request_duration": ("histogram", "", set()),
    "tgi_request_validation_duration": ("histogram", "", set()),
    "tgi_request_queue_duration": ("histogram", "", set()),
    "tgi_request_inference_duration": ("histogram", "", set()),
    "tgi_request_mean_time_per_token_duration": ("histogram", "", set()),
    "tgi_request_input_length": ("histogram", "", set()),
    "tgi_request_max_new_tokens": ("histogram", "", set()),
    "tgi_request_generated_tokens": ("histogram", "", set()),
    "tgi_request_skipped_tokens": ("summary", "", set()),
    "tgi_batch_next_size": ("histogram", "", set()),
    "tgi_batch_current_size": ("gauge", "", set()),
    "tgi_batch_current_max_tokens": ("gauge", "", set()),
    "tgi_queue_size": ("gauge", "", set()),
    "tgi_batch_max_total_tokens": ("gauge", "", set()),
    "tgi_batch_inference_count": ("counter", "method", BOTH),
    "tgi_batch_inference_success": ("counter", "method", BOTH),
    "tgi_batch_inference_failure": ("counter", "method", BOTH),
    "tgi_batch_inference_duration": ("histogram", "method", BOTH),
    "tgi_batch_forward_duration": ("histogram", "method", BOTH),
    "tgi_batch_decode_duration": ("histogram", "method", BOTH),
    "tgi_batch_filter_duration": ("histogram", "method", BOTH),
    "tgi_batch_concat": ("counter", "reason", {"backpressure", "wait_exceeded"}),
    "tgi_batch_concat_duration": ("histogram", "method", {"decode"}),
}
CHANGING = {"tgi_batch_current_size", "tgi_batch_current_max_tokens", "tgi_queue_size"}
"""Gauges that are 0 again when all is done."""


class EncodingBackend(GatedBackend):
    """Tells how long its vision tower took."""

    encoded = 7.0
    """Seconds so far: it was warmed before the first request."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        self.encoded += ENCODING * sum(images is not None for images in batch.images)
        return super().prefill(batch)

    @hookimpl
    def stats(self) -> dict[str, float]:
        return {"image_encode_seconds": self.encoded}


def prepare(request: GenerateRequest) -> TokenPrompt:
    """Take the ids; one of them brings a picture of three tiles, one is refused."""
    (part,) = request.parts
    assert isinstance(part, TokensPart)
    if NO_TEMPLATE in part.ids:
        raise TemplateError("roles must alternate")
    if PICTURE not in part.ids:
        return TokenPrompt(part.ids)
    images = Images(torch.zeros(3, 3, 2, 2), (3,), ((4, 4),), (b"digest",))
    cost = PictureCost(9, 3, {"fetch": 0.5, "decode": 1.0, "tile": 2.0})
    start = part.ids.index(PICTURE)
    return TokenPrompt(part.ids, images, (cost,), (slice(start, start + 1),))


async def traffic() -> dict[str, Metric]:
    """Let everything happen that has a metric: 4 replies and a picture, and each way to fail once, generation twice."""
    backend = EncodingBackend()
    budgets = replace(Budgets.of(LIMITS), waiting_served_ratio=2.0, max_waiting_tokens=3)
    async with arithmetic_runtime(backend, max_concurrent_requests=4, prepare=prepare, budgets=budgets) as runtime:
        given = submissions(runtime)
        # One runs; two join it at once, being twice as many; the last has to wait for three decode steps.
        first, *others = (reply(runtime, tokens_request([1, 500 + n], 10)) for n in range(4))
        running = [asyncio.ensure_future(first)]
        await backend.started()
        running += [asyncio.ensure_future(other) for other in others]
        for _ in running:
            await given.acquire()
        with pytest.raises(Overloaded):
            await reply(runtime, tokens_request([1, 500]))
        backend.gate.release(1000)
        await asyncio.gather(*running)
        dropped = runtime.generate(tokens_request([1, 500], 60))
        await anext(dropped)
        await dropped.aclose()
        await reply(runtime, tokens_request([1, PICTURE], 2))
        for wrong, prompt, count in (
            (InvalidRequest, [1, 500], 1000),
            (TemplateError, [1, NO_TEMPLATE], 1),
            (BackendError, [1, FAILS], 1),
            (BackendError, [1, FAILS_LATER], 2),
        ):
            with pytest.raises(wrong):
                await reply(runtime, tokens_request(prompt, count))
        backend.gate = threading.Semaphore(0)
        incomplete = runtime.generate(tokens_request([1, 500], 60))
        await anext(incomplete)
        closing = asyncio.ensure_future(runtime.aclose())
        while runtime.engine._inbox.empty() and not runtime.engine._stopping:  # noqa: ASYNC110
            await asyncio.sleep(0)  # until the order to stop is given: the gate would let the stream end before
        backend.gate.release(2)
        with pytest.raises(NotReady):
            _ = [delta async for delta in incomplete]
        await closing
        return read_scrape(await runtime.metrics())


@pytest.fixture(scope="module")
def scrape() -> dict[str, Metric]:
    """One scrape for all tests, after the traffic."""
    return asyncio.run(traffic())


@pytest.mark.parametrize("name", TGI)
def test_metric_of_tgi(scrape: dict[str, Metric], name: str) -> None:
    """It is there with its label's values, and each was recorded."""
    kind, label, values = TGI[name]
    metric = scrape[name]
    assert metric.type == kind
    assert metric.labels == ({label: values} if label else {})
    assert set(metric.values) == (values or {""})
    assert name in CHANGING or all(value > 0 for value in metric.values.values())


def test_nothing_else_has_a_name_of_tgi(scrape: dict[str, Metric]) -> None:
    """What is ours has our prefix."""
    assert {name for name in scrape if not name.startswith("runtime_")} == set(TGI)


def test_buckets_of_tgi(scrape: dict[str, Metric]) -> None:
    """Durations in 35 steps, tokens in a hundred up to their limit, batches one by one up to the rows there are."""
    for name, metric in scrape.items():
        if name.endswith(("_duration", "_seconds")) and metric.type == "histogram":
            assert metric.bounds[:-1] == pytest.approx(SECONDS)
    for name, limit in (("input_length", 48), ("max_new_tokens", 64), ("generated_tokens", 64)):
        expected = [limit * step / 100 for step in range(1, 101)]
        assert scrape[f"tgi_request_{name}"].bounds[:-1] == pytest.approx(expected)
    assert scrape["tgi_batch_next_size"].bounds[:-1] == [1, 2, 3, 4]


def test_what_happened_is_what_is_told(scrape: dict[str, Metric]) -> None:
    """Counted by hand from the traffic."""
    assert scrape["tgi_request_count"].values == {"": 12}
    assert scrape["tgi_request_success"].values == {"": 5}
    assert scrape["tgi_request_failure"].values == {
        **dict.fromkeys(("overloaded", "validation", "template", "incomplete", "dropped"), 1),
        "generation": 2,
    }
    steps = scrape["tgi_batch_inference_count"].values
    for name in ("tgi_batch_inference_success", "tgi_batch_filter_duration", "tgi_batch_inference_duration"):
        assert scrape[name].values == {method: count - 1 for method, count in steps.items()}, name
    assert scrape["tgi_batch_inference_failure"].values == {"prefill": 1, "decode": 1}
    assert (
        scrape["tgi_batch_concat_duration"].values["decode"] == scrape["tgi_batch_inference_success"].values["prefill"]
    )


def test_pictures(scrape: dict[str, Metric]) -> None:
    """One of three tiles; each stage once, with what the backend says of its own."""
    assert scrape["runtime_images_total"].values == {"": 1}
    assert scrape["runtime_image_tiles_total"].values == {"": 3}
    assert scrape["runtime_image_tokens"].values == {"": 1}
    assert scrape["runtime_image_stage_seconds"].values == dict.fromkeys(
        ("fetch", "decode", "tile", "encode", "prefill"), 1
    )


@pytest.mark.parametrize("stats", [{}, [1.0], {"image_encode_seconds": "long"}, None])
async def test_encoding_is_not_told_when_the_backend_does_not(stats: object) -> None:
    """Nor is a request lost to an answer that is none."""

    class Odd(ArithmeticBackend):
        @hookimpl
        def stats(self) -> object:
            return stats

    async with arithmetic_runtime(Odd(MODEL.vocabulary, LIMITS), prepare=prepare) as runtime:
        await reply(runtime, tokens_request([1, PICTURE], 2))
        stages = read_scrape(await runtime.metrics())["runtime_image_stage_seconds"]
    assert stages.values == {"fetch": 1, "decode": 1, "tile": 1, "prefill": 1, "encode": 0}


async def test_encoding_is_the_difference() -> None:
    """What the vision tower took before the request, in the warm-up, is not the request's."""
    backend = EncodingBackend()
    backend.gate.release(10)
    async with arithmetic_runtime(backend, prepare=prepare) as runtime:
        await reply(runtime, tokens_request([1, PICTURE], 2))
        lines = (await runtime.metrics()).decode().splitlines()
    assert f'runtime_image_stage_seconds_sum{{stage="encode"}} {ENCODING}' in lines
    assert 'runtime_image_stage_seconds_sum{stage="decode"} 1.0' in lines
    assert "runtime_image_tokens_sum 9.0" in lines


async def test_counts_of_the_backend() -> None:
    """By its own names, from when it is loaded; after a prefill as they are then."""
    backend = EncodingBackend()
    async with arithmetic_runtime(backend, prepare=prepare) as runtime:
        loaded = read_scrape(await runtime.metrics())["runtime_backend_stat"]
        await reply(runtime, tokens_request([1, PICTURE], 1))
        computed = read_scrape(await runtime.metrics())["runtime_backend_stat"]
    assert (loaded.type, loaded.values) == ("gauge", {"image_encode_seconds": 7.0})
    assert computed.values == {"image_encode_seconds": 7.0 + ENCODING}


async def test_step_operations_are_steps() -> None:
    """Whoever drives them: a prefill, its concatenation, a decode that ends it."""
    async with arithmetic_runtime(prepare=prepare) as runtime:
        batch = (await runtime.prefill([StepRequest(1, tokens_request([1, PICTURE], 2))])).batch
        assert batch is not None
        await runtime.decode([batch.id])
        scrape = read_scrape(await runtime.metrics())
    for name in ("inference_success", "forward_duration", "filter_duration"):
        assert scrape[f"tgi_batch_{name}"].values == {"prefill": 1, "decode": 1}
    assert scrape["tgi_batch_concat_duration"].values == {"decode": 1}
    assert scrape["runtime_images_total"].values == {"": 1}
    assert scrape["tgi_request_count"].values == {"": 0}


async def test_queue_and_rows_while_one_waits() -> None:
    """The row is taken and one request waits, whose age grows though the device is in the middle of a step."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        given = submissions(runtime)
        both = [asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 10))) for _ in range(2)]
        for _ in both:
            await given.acquire()
        await backend.started()
        backend.gate.release(2)  # the first of these steps may have begun before the second request came
        while (first := read_scrape(await runtime.metrics()))["tgi_queue_size"].values[""] == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
        second = read_scrape(await runtime.metrics())
        backend.gate.release(100)
        await asyncio.gather(*both)
    for name, value in (("tgi_queue_size", 1), ("tgi_batch_current_size", 1), ("runtime_rows_used", 1)):
        assert first[name].values == {"": value}
    assert first["tgi_batch_current_max_tokens"].values == {"": 12}
    assert 0 < first["runtime_queue_age_seconds"].values[""] < second["runtime_queue_age_seconds"].values[""]


async def test_nobody_waits() -> None:
    """The queue has no age."""
    async with arithmetic_runtime() as runtime:
        await reply(runtime, tokens_request([1, 500], 2))
        scrape = read_scrape(await runtime.metrics())
    assert scrape["runtime_queue_age_seconds"].values == {"": 0}
