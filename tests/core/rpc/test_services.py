"""Whole requests over gRPC: raw stubs and `RemoteRuntime` against a worker's runtime on the arithmetic backend."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded, RuntimeServiceError, UnknownBatch
from runtime.local import LocalRuntime
from runtime.rpc import convert
from runtime.runtime import Delta, FinishReason, GenerateRequest
from runtime.v1 import backend_pb2, generation_pb2, messages_pb2
from support.arithmetic import FAILS, FAILS_LATER, expected
from support.gated import ONE_ROW, GatedBackend
from support.rpc import Connection, connected
from support.scripted import ScriptedRuntime
from support.serving import arithmetic_runtime, ids, info, reply, tokens_request

pytestmark = pytest.mark.anyio

ERRORS = [
    (InvalidRequest("`x` must be 1, got 2, é"), grpc.StatusCode.INVALID_ARGUMENT),
    (Overloaded("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnknownBatch("there is no batch 7"), grpc.StatusCode.NOT_FOUND),
    (BackendError("lost"), grpc.StatusCode.INTERNAL),
    (NotReady("loading"), grpc.StatusCode.UNAVAILABLE),
]


def generate_message(request: GenerateRequest, request_id: int = 0) -> generation_pb2.GenerateRequest:
    return generation_pb2.GenerateRequest(request=convert.request_message(request, request_id))


def each_call(connection: Connection) -> dict[str, Any]:
    """One call of every RPC of both services, by name; a stream's call waits for its first message."""
    generation, backend, request = connection.generation, connection.backend, messages_pb2.Request(inputs="a")
    return {
        "Generation.Generate": generation.Generate(generation_pb2.GenerateRequest(request=request)).read,
        "Generation.Tokenize": lambda: generation.Tokenize(generation_pb2.TokenizeRequest(request=request)),
        "Generation.Info": lambda: generation.Info(messages_pb2.InfoRequest()),
        "Generation.Metrics": lambda: generation.Metrics(generation_pb2.MetricsRequest()),
        "Backend.Warmup": backend.Warmup(backend_pb2.WarmupRequest()).read,
        "Backend.Prefill": lambda: backend.Prefill(
            backend_pb2.PrefillRequest(batch=backend_pb2.Batch(requests=[request]))
        ),
        "Backend.Concatenate": lambda: backend.Concatenate(backend_pb2.ConcatenateRequest()),
        "Backend.Decode": lambda: backend.Decode(backend_pb2.DecodeRequest()),
        "Backend.Filter": lambda: backend.Filter(backend_pb2.FilterRequest()),
        "Backend.Release": lambda: backend.Release(backend_pb2.ReleaseRequest()),
        "Backend.Info": lambda: backend.Info(messages_pb2.InfoRequest()),
        "Backend.Health": lambda: backend.Health(backend_pb2.HealthRequest()),
    }


async def test_stream_through_the_stub(tmp_path: Path) -> None:
    """The tokens worked out by hand in the backend's docstring, under the caller's id."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        call = connection.generation.Generate(generate_message(tokens_request([1, 500, 600], 4), request_id=9))
        deltas = [response.delta async for response in call]
    assert [id for delta in deltas for id in delta.tokens.ids] == [601, 602, 604, 608]
    assert {delta.request_id for delta in deltas} == {9}
    assert [delta.HasField("generated_text") for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    end = deltas[-1].generated_text
    assert (end.finish_reason, end.generated_tokens, end.prompt_tokens) == (messages_pb2.FINISH_REASON_LENGTH, 4, 3)
    assert not end.HasField("seed")
    assert (end.prompt_cost.cached_tokens, end.prompt_cost.bucket, end.prompt_cost.padding) == (0, 3, 0)


async def test_same_reply_on_both_sides(tmp_path: Path) -> None:
    """The gateway's runtime gives what the worker's does: tokens, texts, completion; each run has its own timings."""
    sampled = tokens_request([1, 500], 10, do_sample=True, temperature=0.75, top_k=9, seed=2**64 - 1)
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        for request in (tokens_request([1, 500, 600], 8), tokens_request([300]), sampled):
            there, here = await reply(connection.remote, request), await reply(runtime, request)
            assert there.completion is not None
            assert here.completion is not None
            assert there.tokens == here.tokens
            assert replace(there.completion, timings=None) == replace(here.completion, timings=None)


async def test_many_streams_at_once(tmp_path: Path) -> None:
    """More than there are rows; each gets its own tokens."""
    prompts = [[1, 410 + 7 * n] * (1 + n % 3) for n in range(10)]
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        answers = await asyncio.gather(*(reply(connection.remote, tokens_request(each, 5)) for each in prompts))
    assert [ids(answer) for answer in answers] == [expected(each, 5) for each in prompts]


async def test_tokenize(tmp_path: Path) -> None:
    """Ids, texts, which of them are special, and what they cost; the end of sequence is 2."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        there = await connection.remote.tokenize(tokens_request([1, 500, 2]))
        here = await runtime.tokenize(tokens_request([1, 500, 2]))
    assert there == here
    assert [(token.id, token.special) for token in there.tokens] == [(1, True), (500, False), (2, True)]


@pytest.mark.proves("runtime.v1.Backend/Info")
async def test_info_and_health(tmp_path: Path) -> None:
    """Both services tell the same facts."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        assert await connection.remote.info() == info()
        assert await connection.backend.Info(messages_pb2.InfoRequest()) == convert.info_message(info())
        assert await connection.remote.health() == await runtime.health()


@pytest.mark.parametrize(("error", "code"), ERRORS)
async def test_errors_have_a_status_and_their_class(error: RuntimeServiceError, code: Any, tmp_path: Path) -> None:
    """From every RPC: the code, the text as it is, and the class beside it."""
    async with connected(ScriptedRuntime(error), tmp_path) as connection:
        for name, call in each_call(connection).items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call()
            assert (name, caught.value.code()) == (name, code)
            assert caught.value.details() == error.message
            assert ("runtime-error", type(error).__name__) in tuple(caught.value.trailing_metadata() or ())


async def test_unexpected_error_leaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that the server failed and nothing else; the log has the cause."""
    async with connected(ScriptedRuntime(ValueError("/secret/path")), tmp_path) as connection:
        for call in each_call(connection).values():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call()
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert caught.value.details() == "the server failed; its log has the cause"
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    assert "/secret/path" in caplog.text


async def test_errors_of_a_real_runtime(tmp_path: Path) -> None:
    """A parameter out of range, and a backend that fails before and after the first token."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        parameters = messages_pb2.NextTokenChooserParameters(temperature=-1)
        message = messages_pb2.Request(inputs="a", parameters=parameters)
        with pytest.raises(grpc.aio.AioRpcError, match="`temperature` must be above 0") as caught:
            await connection.generation.Generate(generation_pb2.GenerateRequest(request=message)).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(BackendError, match="failed in prefill"):
            await reply(connection.remote, tokens_request([1, FAILS]))
        stream = connection.remote.generate(tokens_request([1, FAILS_LATER]))
        assert ids(await anext(stream)) == expected([1, FAILS_LATER], 1)
        with pytest.raises(BackendError, match="failed in decode"):
            await anext(stream)


async def test_cancelled_call_frees_its_row(tmp_path: Path) -> None:
    """With one row, another request runs as soon as the step at work has ended."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime, connected(runtime, tmp_path) as connection:
        ended = watch(runtime)
        call = connection.generation.Generate(generate_message(tokens_request([1, 500], 60)))
        assert list((await call.read()).delta.tokens.ids) == expected([1, 500], 1)
        call.cancel()
        await assert_row_is_freed(ended, connection, backend)


async def test_closed_iterator_frees_its_row(tmp_path: Path) -> None:
    """The same through the runtime that the gateway holds."""
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime, connected(runtime, tmp_path) as connection:
        ended = watch(runtime)
        async with aclosing(connection.remote.generate(tokens_request([1, 500], 60))) as stream:
            assert ids(await anext(stream)) == expected([1, 500], 1)
        await assert_row_is_freed(ended, connection, backend)


def watch(runtime: LocalRuntime) -> asyncio.Event:
    """Return what is set when a stream of the runtime has ended, for whatever reason."""
    ended, generate = asyncio.Event(), runtime.generate

    async def watched(request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        try:
            async with aclosing(generate(request)) as deltas:
                async for delta in deltas:
                    yield delta
        finally:
            ended.set()

    runtime.generate = watched  # type: ignore[method-assign]
    return ended


async def assert_row_is_freed(ended: asyncio.Event, connection: Connection, backend: GatedBackend) -> None:
    """Let the step at work end: the only row must then be free."""
    await ended.wait()
    backend.gate.release()
    assert ids(await reply(connection.remote, tokens_request([1, 700], 1))) == expected([1, 700], 1)
    assert backend.count("decode") <= 1


async def test_stop_reasons_travel(tmp_path: Path) -> None:
    """The end of sequence is a reason of its own."""
    async with arithmetic_runtime() as runtime, connected(runtime, tmp_path) as connection:
        answer = await reply(connection.remote, tokens_request([300]))
    assert answer.completion is not None
    assert answer.completion.finish_reason is FinishReason.EOS_TOKEN
