"""The gateway process: HTTP and public gRPC in front of a supervised worker."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.availability import Availability
from runtime.config import Settings
from runtime.draining import DrainingRuntime
from runtime.errors import StartupError
from runtime.remote import RemoteRuntime
from runtime.resuming import ResumingRuntime
from runtime.runtime import Health, Readiness
from runtime.serve.front_door import FrontDoor
from runtime.serve.monitor import Monitor
from runtime.serve.signals import drained, orders_by_signal
from runtime.serve.supervisor import STOP_SECONDS, Supervisor
from runtime.telemetry.gateway import GatewayMetrics
from runtime.telemetry.traces import tracing

log = logging.getLogger(__name__)


async def run_gateway(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises StartupError when a port is taken, the disk is full or the worker cannot start.
    """
    orders = orders_by_signal()
    door = FrontDoor(settings)
    with (
        tracing(settings.otlp_endpoint, settings.otlp_service_name, "gateway") as traces,
        door.listen() as listener,
        _folder_of_sockets() as folder,
    ):
        worker_address = f"unix:{folder / 'worker.sock'}"
        availability, metrics = Availability(), GatewayMetrics()
        runtime = DrainingRuntime(ResumingRuntime(worker_address, availability, metrics), availability)
        worker = RemoteRuntime(worker_address)  # who watches it has a channel of its own
        servers = door.grpc_servers(runtime, traces)
        http = door.http_server(runtime, traces, STOP_SECONDS)  # only a client that does not read stays so long

        async def hurry() -> None:
            await orders.at_once.wait()
            http.force_exit = True
            supervisor.kill()

        async def tell(health: Health) -> None:
            for server in servers.values():
                await server.tell(health.readiness)
            if health.readiness is Readiness.READY:
                log.info("Connected")
            elif health.readiness is Readiness.FAILED:
                log.error("not ready: %s", health.message)

        arguments = ["worker", "--supervised", "--listen", worker_address, *settings.arguments("worker")]
        monitor = Monitor(worker, availability, settings.step_timeout, tell)
        supervisor = Supervisor(arguments, monitor, availability, lambda end: metrics.restarts.labels(end).inc())
        supervising = asyncio.ensure_future(supervisor.run())
        serving = asyncio.ensure_future(http.serve(sockets=[listener]))
        stopping = asyncio.ensure_future(orders.stop.wait())
        log.info("HTTP on %s", door.url(listener))
        try:
            for name, server in servers.items():
                await server.start()
                log.info("%s on %s", name, server.address)
            await asyncio.wait({supervising, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("stopping")
            stopping.cancel()
            await monitor.stopping()
            if orders.stop.is_set():
                await drained(runtime, orders, settings.drain_seconds)
            http.should_exit = True
            grace_seconds = 0 if orders.at_once.is_set() else 1
            await asyncio.gather(*(server.aclose(grace_seconds) for server in servers.values()))
            supervising.cancel()  # with the worker end the replies that still run, each with an error
            hurrying = asyncio.ensure_future(hurry())
            try:
                with suppress(asyncio.CancelledError):
                    await supervising
            finally:
                await serving
                hurrying.cancel()
                await worker.aclose()
                await runtime.aclose()


@contextmanager
def _folder_of_sockets() -> Iterator[Path]:
    """A folder that only this user may enter; the sockets are all that a server writes to a disk, but for its log."""
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise StartupError(
            "there is no room for the worker's socket: the folder of temporary files is full or cannot be written; "
            "free some space, or set TMPDIR to another folder"
        ) from error
    with folder as name:
        yield Path(name)
