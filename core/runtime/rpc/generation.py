"""The gRPC service `Generation`: converts and awaits, no policy."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from grpc.aio import ServicerContext as Context

from runtime.rpc import convert
from runtime.rpc.failure import aborting
from runtime.runtime import Runtime
from runtime.v1 import generation_pb2, generation_pb2_grpc, messages_pb2

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces
    from runtime.telemetry.spans import CallSpan

GENERATE: Final = "runtime.v1.Generation/Generate"


class GenerationService(generation_pb2_grpc.GenerationServicer):
    """Whole requests, over any `Runtime`."""

    def __init__(self, runtime: Runtime, traces: Traces | None = None) -> None:
        self._runtime = runtime
        self._traces = traces

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        async with aborting(context):
            with self._span(context) as span:
                parsed = replace(convert.request_from(request.request), deadline=_deadline(context))
                async with aclosing(self._runtime.generate(parsed)) as deltas:
                    async for delta in deltas:
                        if span is not None:
                            span.told(delta)
                        message = convert.delta_message(delta, request.request.id)
                        yield generation_pb2.GenerateResponse(delta=message)

    def _span(self, context: Context) -> AbstractContextManager[CallSpan | None]:
        if self._traces is None:
            return nullcontext()
        return self._traces.call(GENERATE, context.invocation_metadata() or ())

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Context
    ) -> generation_pb2.TokenizeResponse:
        async with aborting(context):
            return convert.tokenization_message(await self._runtime.tokenize(convert.request_from(request.request)))

    async def Info(self, _request: messages_pb2.InfoRequest, context: Context) -> messages_pb2.InfoResponse:
        async with aborting(context):
            return convert.info_message(await self._runtime.info())

    async def Metrics(
        self, _request: generation_pb2.MetricsRequest, context: Context
    ) -> generation_pb2.MetricsResponse:
        async with aborting(context):
            return generation_pb2.MetricsResponse(exposition=(await self._runtime.metrics()).decode())


def _deadline(context: Context) -> float | None:
    seconds = context.time_remaining()
    return None if seconds is None else time.monotonic() + seconds
