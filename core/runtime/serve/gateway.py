"""The gateway process: HTTP and public gRPC in front of a supervised worker."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from runtime.config import Settings
from runtime.errors import StartupError
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.remote import RemoteRuntime
from runtime.rpc.server import RpcServer
from runtime.runtime import Readiness
from runtime.serve.signals import stop_on_signals
from runtime.serve.supervisor import STOP_SECONDS, Supervisor
from runtime.telemetry.traces import tracing

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces

DRAIN_SECONDS: Final = 5
"""Time that running replies have to end after the order to stop."""

log = logging.getLogger(__name__)


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: the gateway has its own, for all that it runs."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run_gateway(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises StartupError when a port is taken or the worker cannot start.
    """
    stop = stop_on_signals()
    with (
        tracing(settings.otlp_endpoint, settings.otlp_service_name, "gateway") as traces,
        _listening(settings.hostname, settings.port) as listener,
        tempfile.TemporaryDirectory() as folder,
    ):
        worker_address = f"unix:{Path(folder) / 'worker.sock'}"
        runtime = RemoteRuntime(worker_address)
        rpc = _public_rpc(runtime, settings, traces)
        config = uvicorn.Config(
            create_app(runtime, _http_options(settings), traces),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_SECONDS + STOP_SECONDS,  # only a client that does not read stays so long
        )
        http = _HttpServer(config)

        async def tell(readiness: Readiness) -> None:
            if rpc is not None:
                await rpc.tell(readiness)
            if readiness is Readiness.READY:
                log.info("Connected")

        arguments = ["worker", "--supervised", "--listen", worker_address, *settings.arguments("worker")]
        supervising = asyncio.ensure_future(Supervisor(arguments, runtime, tell).run())
        serving = asyncio.ensure_future(http.serve(sockets=[listener]))
        stopping = asyncio.ensure_future(stop.wait())
        log.info("HTTP on http://%s", _authority(settings.hostname, listener.getsockname()[1]))
        try:
            if rpc is not None:
                await rpc.start()
                log.info("gRPC on %s", rpc.address)
            await asyncio.wait({supervising, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("stopping")
            stopping.cancel()
            http.should_exit = True
            await asyncio.wait({serving}, timeout=DRAIN_SECONDS)
            if rpc is not None:
                await rpc.aclose()
            supervising.cancel()  # with the worker end the replies that still run, each with an error
            try:
                with suppress(asyncio.CancelledError):
                    await supervising
            finally:
                await serving
                await runtime.aclose()


def _listening(hostname: str, port: int) -> socket.socket:
    """Bind before the model is loaded, so that a taken port costs nothing."""
    family = socket.AF_INET6 if ":" in hostname else socket.AF_INET
    try:
        return socket.create_server((hostname, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or "").partition(" (")[0]  # socket repeats the address in brackets
        message = f"cannot listen on {_authority(hostname, port)}: {reason}; choose another --port or --hostname"
        raise StartupError(message) from error


def _http_options(settings: Settings) -> HttpOptions:
    return HttpOptions(
        payload_limit=settings.payload_limit,
        api_key=settings.api_key,
        cors_allow_origins=settings.cors_allow_origin,
        max_best_of=settings.max_best_of,
        max_client_batch_size=settings.max_client_batch_size,
        max_stop_sequences=settings.max_stop_sequences,
        max_top_n_tokens=settings.max_top_n_tokens,
        messages_api_enabled=settings.messages_api_enabled,
        compute_type=settings.compute_type,
    )


def _public_rpc(runtime: RemoteRuntime, settings: Settings, traces: Traces | None) -> RpcServer | None:
    if settings.grpc_port is None:
        return None
    return RpcServer(runtime, _authority(settings.hostname, settings.grpc_port), settings.payload_limit, traces)


def _authority(hostname: str, port: int) -> str:
    """Return host and port as addresses write them."""
    return f"[{hostname}]:{port}" if ":" in hostname else f"{hostname}:{port}"
