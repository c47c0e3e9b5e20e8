"""The worker process: one loaded model behind gRPC, complete by itself."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from runtime.config import Settings
from runtime.errors import RuntimeServiceError
from runtime.local import LocalRuntime
from runtime.rpc.server import RpcServer
from runtime.runtime import Readiness
from runtime.serve.assembly import build_runtime, model_of
from runtime.serve.signals import stop_on_signals, stop_when_orphaned
from runtime.telemetry.traces import tracing

Result = TypeVar("Result")

log = logging.getLogger(__name__)


async def run_worker(settings: Settings, listen: str, supervised: bool) -> None:
    """Serve until a signal comes, or, when `supervised`, until standard input ends.

    Raises StartupError when the model cannot be served, and RuntimeServiceError when the device thread ends.
    """
    with tracing(settings.otlp_endpoint, settings.otlp_service_name, "worker") as traces:
        stop = stop_on_signals()
        if supervised:
            stop_when_orphaned(stop)
        finding = _on_a_thread(lambda: model_of(settings))
        if not await _first(finding, stop):
            return
        runtime = build_runtime(settings, finding.result())
        try:
            server = RpcServer(runtime, listen, settings.payload_limit, traces)
            await server.start()
            try:
                await _serve(settings, runtime, server, stop)
            finally:
                await server.aclose()
        finally:
            await runtime.aclose()


async def _serve(settings: Settings, runtime: LocalRuntime, server: RpcServer, stop: asyncio.Event) -> None:
    started = time.monotonic()
    log.info("loading %s on backend %s", settings.model_id, (await runtime.info()).backend)
    if not await _first(asyncio.wrap_future(runtime.engine.loaded), stop):
        return
    await server.tell(Readiness.READY)
    log.info("%s is loaded, in %.1f s; gRPC on %s", settings.model_id, time.monotonic() - started, server.address)
    if await _first(asyncio.wrap_future(runtime.engine.ended), stop):
        raise RuntimeServiceError("the device thread ended; the log above has the cause")


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
