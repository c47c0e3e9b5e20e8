"""What a public gRPC listener asks: the key, on everything but health; a share; and patience that ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from runtime.api_key import Key
from runtime.clients import ClientPlaces
from runtime.rpc import door as doors
from runtime.rpc.door import Door, address_of
from runtime.rpc.server import SERVICES, STEP_RPCS, RpcServer
from runtime.runtime import Delta, GenerateRequest
from runtime.v1 import backend_pb2, backend_pb2_grpc, generation_pb2, generation_pb2_grpc, messages_pb2
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

SECONDS = 20
WORDS = "send the API key as `Authorization: Bearer KEY`"
ASK = generation_pb2.GenerateRequest(
    request=messages_pb2.Request(input_chunks=messages_pb2.Input(chunks=[messages_pb2.InputChunk(text="two")]))
)


@asynccontextmanager
async def served(runtime: Any, door: Door) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a public listener."""
    server = RpcServer(runtime, "127.0.0.1:0", 16_000_000, door=door)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield channel
    finally:
        await server.aclose(grace_seconds=0)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (anext(aiter(call)) if hasattr(call, "__aiter__") else call)
    return caught.value.code(), str(caught.value.details())


def methods() -> list[str]:
    """Every method of every service, and some that do not exist."""
    from google.protobuf import descriptor_pool

    found = [descriptor_pool.Default().FindServiceByName(name) for name in SERVICES]
    ours = [f"/{service.full_name}/{method.name}" for service in found for method in service.methods]
    others = (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/a.B/C",
        "/grpc.health.v2.Health/Check",
    )
    return [*ours, *others, "nonsense"]


@pytest.mark.parametrize("given", [None, "Bearer secret", "Secret", "Bearer Secret2", "bearer Secret"])
async def test_no_method_without_the_key(given: str | None) -> None:
    """The same words as over HTTP, and nothing is computed; methods that do not exist are no different."""
    runtime = ScriptedRuntime()
    metadata = [] if given is None else [("authorization", given)]
    async with served(runtime, Door(Key("Secret"))) as channel:
        for method in methods():
            call = channel.unary_unary(method)(b"", metadata=metadata)
            assert await refusal(call) == (grpc.StatusCode.UNAUTHENTICATED, WORDS), method
    assert not runtime.requests


async def test_two_keys() -> None:
    """Nobody can know which one a proxy would have meant."""
    async with served(ScriptedRuntime(), Door(Key("Secret"))) as channel:
        metadata = [("authorization", "Bearer Secret"), ("authorization", "Bearer Secret")]
        info = generation_pb2_grpc.GenerationStub(channel).Info(messages_pb2.InfoRequest(), metadata=metadata)
        assert (await refusal(info))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_the_key() -> None:
    """Opens all services, reflection too."""
    metadata = [("authorization", "Bearer Secret")]
    async with served(ScriptedRuntime(last("a", token("a"))), Door(Key("Secret"))) as channel:
        generation = generation_pb2_grpc.GenerationStub(channel)
        assert [each.delta.generated_text.text async for each in generation.Generate(ASK, metadata=metadata)] == ["a"]
        assert (await generation.Info(messages_pb2.InfoRequest(), metadata=metadata)).model_id == "demo"
        assert await reflected(channel, metadata) == {*SERVICES, *map(service, ("health", "reflection"))}


def service(name: str) -> str:
    return {"health": "grpc.health.v1.Health", "reflection": "grpc.reflection.v1alpha.ServerReflection"}[name]


async def reflected(channel: grpc.aio.Channel, metadata: Any = ()) -> set[str]:
    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    (response,) = [each async for each in stub.ServerReflectionInfo(requests(), metadata=metadata)]
    return {each.name for each in response.list_services_response.service}


async def test_probes_need_no_key() -> None:
    """grpc.health.v1, for which orchestrators have no key to give."""
    async with served(ScriptedRuntime(), Door(Key("Secret"))) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status
        assert (await stub.Watch(health_pb2.HealthCheckRequest()).read()).status


async def test_step_operations_can_be_off() -> None:
    """Each says so; what only tells goes on, and the router's service is not listed."""
    async with served(ScriptedRuntime(), Door(closed=STEP_RPCS)) as channel:
        for method in STEP_RPCS:
            code, text = await refusal(channel.unary_unary(method)(b""))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "step operation" in text
            assert "--step-rpcs" in text
        backend = backend_pb2_grpc.BackendStub(channel)
        assert (await backend.Info(messages_pb2.InfoRequest())).model_id == "demo"
        await backend.Health(backend_pb2.HealthRequest())
        assert "generate.v3.TextGenerationService" not in await reflected(channel)


def test_all_step_operations_are_known() -> None:
    """Every method of the two services that does more than tell."""
    telling = {"Info", "Health", "ServiceDiscovery"}
    ours = {method for method in methods() if method.startswith(("/runtime.v1.Backend/", "/generate.v3."))}
    assert {method for method in ours if method.rpartition("/")[2] not in telling} == STEP_RPCS


class Endless(ScriptedRuntime):
    """Replies that never end, of large pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.running = 0

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        self.running += 1
        try:
            while True:
                yield Delta((token("x" * 10_000),))
                await asyncio.sleep(0)
        finally:
            self.running -= 1


async def until(is_so: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), SECONDS)


async def test_a_share_for_each_client() -> None:
    """One more than it may is refused; a reply that ends or is cancelled makes room; health is no request."""
    runtime = Endless()
    async with served(runtime, Door(places=ClientPlaces(1))) as channel:
        generation = generation_pb2_grpc.GenerationStub(channel)
        running = generation.Generate(ASK)
        await running.read()
        code, text = await refusal(generation.Info(messages_pb2.InfoRequest()))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "--max-concurrent-per-client" in text
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        running.cancel()
        await until(lambda: runtime.running == 0)
        assert (await generation.Info(messages_pb2.InfoRequest())).model_id == "demo"


async def test_a_stream_that_is_not_read_ends() -> None:
    """Its row and its place are free again while its client is still there."""
    runtime = Endless()
    async with served(runtime, Door(places=ClientPlaces(1), unread_seconds=0.2)) as channel:
        generation = generation_pb2_grpc.GenerationStub(channel)
        running = generation.Generate(ASK)
        await running.read()
        await until(lambda: runtime.running == 1)
        await until(lambda: runtime.running == 0)
        running.cancel()


async def test_a_call_without_its_message_ends() -> None:
    """In time, or at once when the client has ended it."""

    async def empty() -> AsyncIterator[bytes]:
        for each in ():
            yield each

    async with served(ScriptedRuntime(), Door(message_seconds=0.1)) as channel:
        method = channel.stream_stream("/runtime.v1.Generation/Generate")
        assert (await refusal(method()))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await refusal(method(empty())))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Refused without a word of a library, and without a line in the log."""
    async with served(ScriptedRuntime(), Door()) as channel:
        for method in ("/runtime.v1.Generation/Generate", "/runtime.v1.Backend/Prefill"):
            code, text = await refusal(channel.unary_unary(method)(b"\xff\xff\xff"))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert text.startswith("the message cannot be read")
    assert not caplog.records


async def test_idle_streams_harm_nobody() -> None:
    """500 calls that never send their message, and 500 that watch the health, while another is served."""
    server = RpcServer(ScriptedRuntime(last("a", token("a"))), "127.0.0.1:0", 16_000_000, door=Door())
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(server.address, options=options) for _ in range(5)]
    try:
        idle = []
        for channel in channels[1:]:
            method = channel.stream_stream("/runtime.v1.Generation/Generate")
            idle += [method() for _ in range(125)]
            watch = health_pb2_grpc.HealthStub(channel).Watch
            watching = [watch(health_pb2.HealthCheckRequest()) for _ in range(125)]
            assert (await watching[-1].read()).status
            idle += watching
        generation = generation_pb2_grpc.GenerationStub(channels[0])
        async for each in generation.Generate(ASK, timeout=SECONDS):
            assert each.delta.generated_text.text == "a"
    finally:
        for channel in channels:
            await channel.close()
        await server.aclose(grace_seconds=0)


async def test_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all, as well as on each connection."""
    monkeypatch.setattr("runtime.rpc.server.CALLS", 2)
    async with served(ScriptedRuntime(), Door()) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watching = [watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for each in watching:
            await each.read()
        generation = generation_pb2_grpc.GenerationStub(channel)
        code, _ = await refusal(generation.Info(messages_pb2.InfoRequest()))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for each in watching:
            each.cancel()


async def test_large_metadata_is_refused() -> None:
    """Before any service sees it."""
    async with served(ScriptedRuntime(), Door()) as channel:
        generation = generation_pb2_grpc.GenerationStub(channel)
        metadata = [("x", "y" * 2 * dict(doors.OPTIONS)["grpc.absolute_max_metadata_size"])]
        code, _ = await refusal(generation.Info(messages_pb2.InfoRequest(), metadata=metadata))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:1.2.3.4:5", "1.2.3.4"), ("ipv6:%5B::1%5D:5", "::1"), ("ipv6:[::1]:5", "::1"), ("unix:", "unix:")],
)
def test_address_of_a_peer(peer: str, address: str) -> None:
    """As gRPC names it."""
    assert address_of(peer) == address
