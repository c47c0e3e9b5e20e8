"""TGI's gRPC service `TextGenerationService`: converts and awaits, no policy."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from grpc.aio import ServicerContext as Context

from runtime.errors import InvalidRequest, NotReady
from runtime.rpc.convert import generate_v3 as convert
from runtime.rpc.failure import aborting
from runtime.rpc.generate_v3_batches import RoutedBatches
from runtime.runtime import Readiness, Runtime, StepRequest, StepResult
from runtime.v3 import generate_pb2, generate_pb2_grpc


class TextGenerationService(generate_pb2_grpc.TextGenerationServiceServicer):
    """Step operations for a router of TGI, over any `Runtime`."""

    def __init__(self, runtime: Runtime, address: str) -> None:
        """`address` is where the server listens: `unix:PATH` or `HOST:PORT`."""
        self._runtime = runtime
        self._batches = RoutedBatches(runtime)
        self._url = _url(address)

    async def Info(self, _request: generate_pb2.InfoRequest, context: Context) -> generate_pb2.InfoResponse:
        async with aborting(context):
            return convert.routed_info_message(await self._runtime.info())

    async def ServiceDiscovery(
        self, _request: generate_pb2.ServiceDiscoveryRequest, _context: Context
    ) -> generate_pb2.ServiceDiscoveryResponse:
        return generate_pb2.ServiceDiscoveryResponse(urls=[self._url])

    async def ClearCache(
        self, request: generate_pb2.ClearCacheRequest, context: Context
    ) -> generate_pb2.ClearCacheResponse:
        async with aborting(context):
            if request.HasField("id"):
                await self._batches.clear(request.id)
            else:
                await self._batches.clear_all()
            return generate_pb2.ClearCacheResponse()

    async def FilterBatch(
        self, request: generate_pb2.FilterBatchRequest, context: Context
    ) -> generate_pb2.FilterBatchResponse:
        async with aborting(context):
            batch = await self._batches.filter(request.batch_id, list(request.request_ids))
            return generate_pb2.FilterBatchResponse(batch=convert.routed_batch_message(batch))

    async def Warmup(self, request: generate_pb2.WarmupRequest, context: Context) -> generate_pb2.WarmupResponse:
        async with aborting(context):
            convert.capacity_message(request, await self._runtime.info())  # to refuse before anything is warmed
            async with aclosing(self._runtime.warmup()) as events:
                async for _ in events:
                    pass
            return convert.capacity_message(request, await self._runtime.info())

    async def Prefill(self, request: generate_pb2.PrefillRequest, context: Context) -> generate_pb2.PrefillResponse:
        async with aborting(context):
            if request.HasField("cached_batch"):
                raise InvalidRequest("`cached_batch` is given, and prompts are computed whole; leave it out")
            requests = [StepRequest(each.id, convert.routed_request_from(each)) for each in request.batch.requests]
            result = await self._batches.prefill(request.batch.id, requests)
            return generate_pb2.PrefillResponse(**_step_fields(result))

    async def Decode(self, request: generate_pb2.DecodeRequest, context: Context) -> generate_pb2.DecodeResponse:
        async with aborting(context):
            result = await self._batches.decode([batch.id for batch in request.batches])
            return generate_pb2.DecodeResponse(**_step_fields(result))

    async def Health(self, _request: generate_pb2.HealthRequest, context: Context) -> generate_pb2.HealthResponse:
        async with aborting(context):
            health = await self._runtime.health()
            if health.readiness is not Readiness.READY:
                raise NotReady(f"the model is not served now: {health.message}")
            return generate_pb2.HealthResponse()


def _url(address: str) -> str:
    """Return a socket in the form that a router takes the path from."""
    path = address.removeprefix("unix:")
    return address if path == address else f"unix://{path.removeprefix('//')}"


def _step_fields(result: StepResult) -> dict[str, Any]:
    return {
        "generations": [convert.generation_message(delta, request_id) for request_id, delta in result.deltas],
        "batch": None if result.batch is None else convert.routed_batch_message(result.batch),
        "forward_ns": result.forward_ns,
        "decode_ns": result.decode_ns,
        "total_ns": result.total_ns,
    }
