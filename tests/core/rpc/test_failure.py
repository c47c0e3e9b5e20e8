"""When to try again and by when to be done, over gRPC: trailing metadata one way, the deadline the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from runtime.errors import BackendError, DeadlineExceeded, NotReady, Overloaded, RuntimeServiceError
from runtime.remote import RemoteRuntime
from runtime.rpc import convert
from runtime.rpc.failure import typed
from runtime.rpc.server import RpcServer
from runtime.runtime import Delta, GenerateRequest
from runtime.v1 import generation_pb2
from support.rpc import connected
from support.scripted import ScriptedRuntime, last
from support.serving import reply, tokens_request

pytestmark = pytest.mark.anyio

REQUEST = tokens_request([1, 500])


class SilentRuntime(ScriptedRuntime):
    """Never says anything."""

    async def generate(self, _request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        await asyncio.Event().wait()
        yield last("")


def message(request: GenerateRequest = REQUEST) -> generation_pb2.GenerateRequest:
    """A call of `Generate`."""
    return generation_pb2.GenerateRequest(request=convert.request_message(request))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Overloaded("full", retry_after=41.5), "42"),
        (NotReady("loading"), "5"),
        (BackendError("lost", retry_after=3), None),
    ],
)
async def test_retry_after_is_trailing_metadata(error: RuntimeServiceError, told: str | None, tmp_path: Path) -> None:
    """The same whole seconds as in HTTP's header."""
    async with connected(ScriptedRuntime(error), tmp_path) as connection:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connection.generation.Generate(message()).read()
    assert dict(caught.value.trailing_metadata() or ()).get("retry-after") == told


async def test_retry_after_comes_through_the_gateway(tmp_path: Path) -> None:
    """Two servers, one behind the other."""
    async with connected(ScriptedRuntime(Overloaded("full", retry_after=42)), tmp_path) as worker:
        address = f"unix:{tmp_path / 'gateway'}"
        server, remote = RpcServer(worker.remote, address, 1000), RemoteRuntime(address)
        await server.start()
        try:
            with pytest.raises(Overloaded, match="full") as caught:
                await reply(remote, REQUEST)
        finally:
            await remote.aclose()
            await server.aclose(grace_seconds=0)
    assert caught.value.retry_after == 42


@pytest.mark.parametrize("told", ["", "-1", "soon", "1.5", "nan"])
def test_a_time_that_is_none(told: str) -> None:
    """Of another server; the error is the same, and says when by itself."""
    metadata = grpc.aio.Metadata(("runtime-error", "Overloaded"), ("retry-after", told))
    error = typed(grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), metadata, "full"))
    assert (type(error), error.message, error.retry_after, error.retry_seconds) == (Overloaded, "full", None, 5)


async def test_deadline_of_the_caller(tmp_path: Path) -> None:
    """Is the request's, through the gateway's client too; without one there is none."""
    scripted = ScriptedRuntime(last("a"))
    async with connected(scripted, tmp_path) as connection:
        await connection.generation.Generate(message(), timeout=300).read()
        await reply(connection.remote, replace(REQUEST, deadline=time.monotonic() + 200))
        await reply(connection.remote, REQUEST)
    deadlines = [request.deadline for request in scripted.requests]
    assert [deadline and round(deadline - time.monotonic(), -2) for deadline in deadlines] == [300, 200, None]


async def test_deadline_that_has_passed(tmp_path: Path) -> None:
    """Is told as what it is; the worker is there and well."""
    async with connected(SilentRuntime(), tmp_path) as connection:
        with pytest.raises(DeadlineExceeded, match="allow more time"):
            await reply(connection.remote, replace(REQUEST, deadline=time.monotonic() - 1))
