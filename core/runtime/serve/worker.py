"""The worker process: one loaded model behind gRPC, complete by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

from runtime.availability import Availability
from runtime.config import Settings
from runtime.draining import DrainingRuntime
from runtime.errors import RuntimeServiceError
from runtime.local import LocalRuntime
from runtime.rpc.server import RpcServer
from runtime.serve.assembly import build_runtime, model_of
from runtime.serve.monitor import POLL_SECONDS, Monitor
from runtime.serve.signals import Orders, drained, orders_by_signal, stop_when_orphaned
from runtime.telemetry.traces import tracing

Result = TypeVar("Result")

log = logging.getLogger(__name__)


async def run_worker(settings: Settings, listen: str, supervised: bool) -> None:
    """Serve until a signal comes, or, when `supervised`, until standard input ends.

    Raises StartupError when the model cannot be served, and RuntimeServiceError when the device thread ends.
    """
    orders = orders_by_signal()
    hurrying = asyncio.ensure_future(_leave_when_told(orders))
    with tracing(settings.otlp_endpoint, settings.otlp_service_name, "worker") as traces:
        if supervised:
            stop_when_orphaned(orders)
        finding = _on_a_thread(lambda: model_of(settings))
        if not await _first(finding, orders.stop):
            return
        local = build_runtime(settings, finding.result())
        availability = Availability()
        runtime = DrainingRuntime(local, availability)
        try:
            server = RpcServer(runtime, listen, settings.payload_limit, traces)
            monitor = Monitor(local, availability, settings.step_timeout, lambda health: server.tell(health.readiness))
            await server.start()
            watching = asyncio.ensure_future(_watch(monitor))
            try:
                await _serve(settings, local, server, monitor, orders.stop)
                await monitor.stopping()
                if not supervised:  # whose gateway has waited already, or is gone
                    await drained(runtime, orders, settings.drain_seconds)
            finally:
                watching.cancel()
                await server.aclose()
        finally:
            await local.aclose()
    hurrying.cancel()
    if local.engine.is_running:
        log.warning("the device is still at work; ending without it")
        _leave(0)


async def _serve(
    settings: Settings, runtime: LocalRuntime, server: RpcServer, monitor: Monitor, stop: asyncio.Event
) -> None:
    """Return at the order to stop."""
    started = time.monotonic()
    log.info("loading %s on backend %s", settings.model_id, (await runtime.info()).backend)
    if not await _first(asyncio.wrap_future(runtime.engine.loaded), stop):
        return
    await monitor.look()
    log.info("%s is loaded, in %.1f s; gRPC on %s", settings.model_id, time.monotonic() - started, server.address)
    if await _first(asyncio.wrap_future(runtime.engine.ended), stop):
        raise RuntimeServiceError("the device thread ended; the log above has the cause")


async def _watch(monitor: Monitor) -> None:
    """Keep what grpc.health.v1 answers true; to kill a worker that is stuck is another process's affair."""
    while True:
        await monitor.watch()
        await asyncio.sleep(POLL_SECONDS)


async def _leave_when_told(orders: Orders) -> None:
    await orders.at_once.wait()
    _leave(1)


def _leave(status: int) -> NoReturn:
    """End the process whatever its threads do; the interpreter would not survive one inside of a library."""
    logging.shutdown()
    os._exit(status)


def _on_a_thread(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """Start `work` on a thread that, unlike those of an executor, does not hold up the end of the process."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="model", daemon=True).start()
    return asyncio.wrap_future(future)


async def _first(awaited: asyncio.Future[Any], stop: asyncio.Event) -> bool:
    """Wait for a future or for the order to stop; return whether the future came first, raise what it holds."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({awaited, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not awaited.done():
        return False
    awaited.result()
    return True
