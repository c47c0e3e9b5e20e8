"""The server around the services: reflection, health, sizes, addresses, and that nothing is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from runtime.errors import InvalidRequest, StartupError
from runtime.rpc.backend import BackendService
from runtime.rpc.generate_v3 import TextGenerationService
from runtime.rpc.generation import GenerationService
from runtime.rpc.server import ENVELOPE_BYTES, RpcServer
from runtime.runtime import GenerateRequest, ImagePart, Readiness
from runtime.v1 import backend_pb2, generation_pb2
from runtime.v3 import generate_pb2
from support.rpc import Connection, connected
from support.scripted import ScriptedRuntime, last, token
from support.serving import reply

pytestmark = pytest.mark.anyio

SERVICES = {
    GenerationService: generation_pb2.DESCRIPTOR.services_by_name["Generation"],
    BackendService: backend_pb2.DESCRIPTOR.services_by_name["Backend"],
    TextGenerationService: generate_pb2.DESCRIPTOR.services_by_name["TextGenerationService"],
}
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", SERVICES)
def test_every_rpc_is_implemented(service: type[object]) -> None:
    """The handlers are those of the proto file, by name; none is left to the generated base class."""
    handlers = {name for name in vars(service) if not name.startswith("_")}
    assert handlers == {method.name for method in SERVICES[service].methods}


async def reflected(
    connection: Connection, request: reflection_pb2.ServerReflectionRequest
) -> reflection_pb2.ServerReflectionResponse:
    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield request

    stub = reflection_pb2_grpc.ServerReflectionStub(connection.channel)
    (response,) = [each async for each in stub.ServerReflectionInfo(requests())]
    return response


async def test_reflection_lists_the_services(tmp_path: Path) -> None:
    """What `grpcurl list` shows."""
    async with connected(ScriptedRuntime(), tmp_path) as connection:
        response = await reflected(connection, reflection_pb2.ServerReflectionRequest(list_services=""))
    assert {service.name for service in response.list_services_response.service} == {
        "runtime.v1.Generation",
        "runtime.v1.Backend",
        "generate.v3.TextGenerationService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.mark.parametrize("service", SERVICES.values())
@pytest.mark.proves("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
async def test_reflection_describes_the_services(service: object, tmp_path: Path) -> None:
    """With the files they need, so that a client needs no proto file."""
    name = service.full_name  # type: ignore[attr-defined]
    async with connected(ScriptedRuntime(), tmp_path) as connection:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        response = await reflected(connection, request)
    files = map(FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto)
    assert {f"{file.package}.{each.name}" for file in files for each in file.service} >= {name}


async def test_health_follows_what_it_is_told(tmp_path: Path) -> None:
    """Not serving until told; then serving while ready, for the server and for each service."""
    async with connected(ScriptedRuntime(), tmp_path) as connection:
        stub = health_pb2_grpc.HealthStub(connection.channel)

        async def statuses() -> set[int]:
            names = ("", *(service.full_name for service in SERVICES.values()))
            return {(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names}

        assert await statuses() == {NOT_SERVING}
        for readiness in Readiness:
            await connection.server.tell(readiness)
            assert await statuses() == {SERVING if readiness is Readiness.READY else NOT_SERVING}


@pytest.mark.proves("grpc.health.v1.Health/Watch")
async def test_health_can_be_watched(tmp_path: Path) -> None:
    """A watcher hears of every change."""
    async with connected(ScriptedRuntime(), tmp_path) as connection:
        watch = health_pb2_grpc.HealthStub(connection.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == NOT_SERVING
        await connection.server.tell(Readiness.READY)
        assert (await watch.read()).status == SERVING
        await connection.server.tell(Readiness.FAILED)
        assert (await watch.read()).status == NOT_SERVING


async def test_size_of_a_message(tmp_path: Path) -> None:
    """A payload of the limit passes, for there is room for the fields around it; more is refused and named."""
    runtime = ScriptedRuntime(last("a", token("a")))
    limit = 1000
    async with connected(runtime, tmp_path, payload_limit=limit) as connection:
        await reply(connection.remote, GenerateRequest(parts=(ImagePart(b"x" * limit),)))
        assert len(runtime.requests) == 1
        too_large = GenerateRequest(parts=(ImagePart(b"x" * (limit + ENVELOPE_BYTES)),))
        with pytest.raises(InvalidRequest, match="larger than the server takes; see --payload-limit"):
            await reply(connection.remote, too_large)
        assert len(runtime.requests) == 1
        await reply(connection.remote, GenerateRequest(parts=(ImagePart(b"x"),)))


async def test_taken_address(tmp_path: Path) -> None:
    """Two servers cannot share a port; the text names it."""
    first = RpcServer(ScriptedRuntime(), "127.0.0.1:0", 1000)
    await first.start()
    try:
        assert first.address.startswith("127.0.0.1:")
        assert not first.address.endswith(":0")
        with pytest.raises(StartupError, match=first.address):
            RpcServer(ScriptedRuntime(), first.address, 1000)
    finally:
        await first.aclose(grace_seconds=0)


async def test_address_of_a_socket(tmp_path: Path) -> None:
    """As it was given."""
    async with connected(ScriptedRuntime(), tmp_path) as connection:
        assert connection.server.address == f"unix:{tmp_path / 's'}"


async def test_no_calls_after_the_end(tmp_path: Path) -> None:
    """A server that is closed answers nobody."""
    async with connected(ScriptedRuntime(), tmp_path) as connection:
        await connection.backend.Health(backend_pb2.HealthRequest())
        await connection.server.aclose(grace_seconds=0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await connection.backend.Health(backend_pb2.HealthRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
