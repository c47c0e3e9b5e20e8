"""A gRPC server over any `Runtime`: our two services, that of TGI, reflection and grpc.health.v1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from runtime.errors import StartupError
from runtime.rpc.backend import BackendService
from runtime.rpc.door import CALLS, OPTIONS, Door
from runtime.rpc.generate_v3 import TextGenerationService
from runtime.rpc.generation import GenerationService
from runtime.runtime import Readiness, Runtime
from runtime.v1 import backend_pb2, backend_pb2_grpc, generation_pb2, generation_pb2_grpc
from runtime.v3 import generate_pb2, generate_pb2_grpc

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces

SERVICES = (
    generation_pb2.DESCRIPTOR.services_by_name["Generation"].full_name,
    backend_pb2.DESCRIPTOR.services_by_name["Backend"].full_name,
    generate_pb2.DESCRIPTOR.services_by_name["TextGenerationService"].full_name,
)
STEP_RPCS = frozenset(
    f"/{service}/{method}"
    for service, methods in (
        (SERVICES[1], ("Warmup", "Prefill", "Concatenate", "Decode", "Filter", "Release")),
        (SERVICES[2], ("Warmup", "Prefill", "Decode", "FilterBatch", "ClearCache")),
    )
    for method in methods
)
"""What changes the state that all callers share; the other methods of these services only tell."""
ENVELOPE_BYTES = 2**20
"""Room for the fields around a payload."""


class RpcServer:
    """Serves until closed; lives on one event loop."""

    def __init__(
        self,
        runtime: Runtime,
        listen: str,
        payload_limit: int,
        traces: Traces | None = None,
        door: Door | None = None,
    ) -> None:
        """`listen` is `unix:PATH` or `HOST:PORT`, port 0 for any free one; `payload_limit` is in bytes.

        `door` has the rules of a listener that is not for the gateway alone.

        Raises StartupError when it cannot listen there.
        """
        options = [
            ("grpc.max_receive_message_length", payload_limit + ENVELOPE_BYTES),
            ("grpc.so_reuseport", 0),  # a port that is taken must be an error
        ]
        if door is None:
            self._server = grpc.aio.server(options=options)
        else:
            rules = tuple(door.interceptors())
            self._server = grpc.aio.server(
                options=[*options, *OPTIONS], interceptors=rules, maximum_concurrent_rpcs=CALLS
            )
        self._health = health_aio.HealthServicer()
        generation_pb2_grpc.add_GenerationServicer_to_server(GenerationService(runtime, traces), self._server)
        backend_pb2_grpc.add_BackendServicer_to_server(BackendService(runtime), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        steps_are_off = door is not None and bool(door.closed)
        reflected = [service for service in SERVICES if service != SERVICES[2] or not steps_are_off]
        reflection.enable_server_reflection(
            [*reflected, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
            self._server,
        )
        try:
            if door is None or door.credentials is None:
                port = self._server.add_insecure_port(listen)
            else:
                port = self._server.add_secure_port(listen, door.credentials)
        except RuntimeError:
            raise StartupError(f"cannot serve gRPC on {listen}; is it taken?") from None
        self.address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
        """Where it listens, with the port in use."""
        router_service = TextGenerationService(runtime, self.address)
        generate_pb2_grpc.add_TextGenerationServiceServicer_to_server(router_service, self._server)

    async def start(self) -> None:
        """Begin to answer; not serving, in the words of grpc.health.v1, until told so."""
        await self.tell(Readiness.LOADING)
        await self._server.start()

    async def tell(self, readiness: Readiness) -> None:
        """Set what grpc.health.v1 answers for the server and for each service."""
        serving = readiness is Readiness.READY
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES):
            await self._health.set(service, status)

    async def aclose(self, grace_seconds: float = 1.0) -> None:
        """Stop: health first, then no new calls, then an end to running ones."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)
