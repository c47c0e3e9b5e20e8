"""The gRPC service `Backend`: the hooks one step at a time; converts and awaits, no policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc.aio import ServicerContext as Context

from runtime.rpc import convert
from runtime.rpc.failure import aborting
from runtime.runtime import Runtime, StepRequest, StepResult
from runtime.v1 import backend_pb2, backend_pb2_grpc, messages_pb2


class BackendService(backend_pb2_grpc.BackendServicer):
    """Step operations, over any `Runtime`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def Warmup(
        self, _request: backend_pb2.WarmupRequest, context: Context
    ) -> AsyncIterator[backend_pb2.WarmupResponse]:
        async with aborting(context), aclosing(self._runtime.warmup()) as events:
            async for progress in events:
                yield convert.progress_message(progress)

    async def Prefill(self, request: backend_pb2.PrefillRequest, context: Context) -> backend_pb2.PrefillResponse:
        async with aborting(context):
            requests = [StepRequest(item.id, convert.request_from(item)) for item in request.batch.requests]
            return backend_pb2.PrefillResponse(**_step_fields(await self._runtime.prefill(requests)))

    async def Concatenate(
        self, request: backend_pb2.ConcatenateRequest, context: Context
    ) -> backend_pb2.ConcatenateResponse:
        async with aborting(context):
            batch = await self._runtime.concatenate(convert.batch_ids(request.batches))
            return backend_pb2.ConcatenateResponse(batch=convert.batch_message(batch))

    async def Decode(self, request: backend_pb2.DecodeRequest, context: Context) -> backend_pb2.DecodeResponse:
        async with aborting(context):
            result = await self._runtime.decode(convert.batch_ids(request.batches))
            return backend_pb2.DecodeResponse(**_step_fields(result))

    async def Filter(self, request: backend_pb2.FilterRequest, context: Context) -> backend_pb2.FilterResponse:
        async with aborting(context):
            batch = await self._runtime.filter(request.batch_id, list(request.request_ids))
            return backend_pb2.FilterResponse(batch=convert.batch_message(batch))

    async def Release(self, request: backend_pb2.ReleaseRequest, context: Context) -> backend_pb2.ReleaseResponse:
        async with aborting(context):
            await self._runtime.release(request.id if request.HasField("id") else None)
            return backend_pb2.ReleaseResponse()

    async def Info(self, _request: messages_pb2.InfoRequest, context: Context) -> messages_pb2.InfoResponse:
        async with aborting(context):
            return convert.info_message(await self._runtime.info())

    async def Health(self, _request: backend_pb2.HealthRequest, context: Context) -> backend_pb2.HealthResponse:
        async with aborting(context):
            return convert.health_message(await self._runtime.health())


def _step_fields(result: StepResult) -> dict[str, Any]:
    return {
        "generations": [convert.delta_message(delta, request_id) for request_id, delta in result.deltas],
        "batch": None if result.batch is None else convert.batch_message(result.batch),
        "forward_ns": result.forward_ns,
        "decode_ns": result.decode_ns,
        "total_ns": result.total_ns,
    }
