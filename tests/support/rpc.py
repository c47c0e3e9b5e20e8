"""A gRPC server on a unix socket, in the test's own process and event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from runtime.remote import RemoteRuntime
from runtime.rpc.server import RpcServer
from runtime.runtime import Runtime
from runtime.v1 import backend_pb2_grpc, generation_pb2_grpc

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces


@dataclass(frozen=True)
class Connection:
    """A running server, and every way to talk to it."""

    server: RpcServer
    channel: grpc.aio.Channel
    generation: generation_pb2_grpc.GenerationStub
    backend: backend_pb2_grpc.BackendStub
    remote: RemoteRuntime


@asynccontextmanager
async def connected(
    runtime: Runtime, folder: Path, payload_limit: int = 16_000_000, traces: Traces | None = None
) -> AsyncIterator[Connection]:
    """Serve a runtime on a socket in the folder, and connect to it."""
    address = f"unix:{folder / 's'}"
    server = RpcServer(runtime, address, payload_limit, traces)
    await server.start()
    channel, remote = grpc.aio.insecure_channel(address), RemoteRuntime(address)
    generation, backend = generation_pb2_grpc.GenerationStub(channel), backend_pb2_grpc.BackendStub(channel)
    try:
        yield Connection(server, channel, generation, backend, remote)
    finally:
        await remote.aclose()
        await channel.close()
        await server.aclose(grace_seconds=0)
