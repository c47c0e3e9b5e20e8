"""`RemoteRuntime`: the `Runtime` of a process that holds no model, over gRPC."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager

import grpc

from runtime.backend import WarmupProgress
from runtime.errors import RuntimeServiceError
from runtime.rpc import convert
from runtime.rpc.failure import typed
from runtime.runtime import (
    CachedBatch,
    Delta,
    GenerateRequest,
    Health,
    Info,
    StepRequest,
    StepResult,
    Tokenization,
)
from runtime.telemetry.traces import failed, outgoing
from runtime.v1 import backend_pb2, backend_pb2_grpc, generation_pb2, generation_pb2_grpc, messages_pb2


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise typed(error) from None


class RemoteRuntime:
    """A client of one worker; lives on one event loop."""

    def __init__(self, target: str) -> None:
        """`target` is `unix:PATH` or `HOST:PORT`; nothing is sent before the first call."""
        options = [
            ("grpc.max_send_message_length", -1),  # the worker has the limit
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),  # the worker is ours and near
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self._channel = grpc.aio.insecure_channel(target, options=options)
        self._generation = generation_pb2_grpc.GenerationStub(self._channel)
        self._backend = backend_pb2_grpc.BackendStub(self._channel)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream a reply; closing the iterator cancels the call, which frees the row."""
        try:
            async with aclosing(self._replies(request)) as deltas:
                async for delta in deltas:
                    yield delta
        except RuntimeServiceError as error:
            failed(error)
            raise

    async def _replies(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Stream a reply; closing the iterator cancels the call, which frees the row."""
        message = generation_pb2.GenerateRequest(request=convert.request_message(request))
        call = self._generation.Generate(message, metadata=outgoing(), timeout=_seconds_to(request.deadline))
        try:
            with _typed_errors():
                async for response in call:
                    yield convert.delta_from(response.delta)
        finally:
            call.cancel()

    async def tokenize(self, request: GenerateRequest) -> Tokenization:
        """Return the prompt's tokens, and what they would cost."""
        message = generation_pb2.TokenizeRequest(request=convert.request_message(request))
        with _typed_errors():
            return convert.tokenization_from(await self._generation.Tokenize(message))

    async def info(self) -> Info:
        """Tell what the worker serves."""
        with _typed_errors():
            return convert.info_from(await self._generation.Info(messages_pb2.InfoRequest()))

    async def health(self) -> Health:
        """Tell the worker's state; NotReady is raised when there is no worker."""
        with _typed_errors():
            return convert.health_from(await self._backend.Health(backend_pb2.HealthRequest()))

    async def metrics(self) -> bytes:
        """Tell the worker's metrics."""
        with _typed_errors():
            response = await self._generation.Metrics(generation_pb2.MetricsRequest())
        exposition: str = response.exposition
        return exposition.encode()

    async def warmup(self) -> AsyncGenerator[WarmupProgress, None]:
        """Run the worker's warm-up."""
        call = self._backend.Warmup(backend_pb2.WarmupRequest())
        try:
            with _typed_errors():
                async for response in call:
                    yield convert.progress_from(response)
        finally:
            call.cancel()

    async def prefill(self, requests: Sequence[StepRequest]) -> StepResult:
        """Lease rows and compute prompts."""
        batch = backend_pb2.Batch(requests=[convert.request_message(step.request, step.id) for step in requests])
        with _typed_errors():
            return _step_from(await self._backend.Prefill(backend_pb2.PrefillRequest(batch=batch)))

    async def concatenate(self, batch_ids: Sequence[int]) -> CachedBatch:
        """Join leased batches."""
        with _typed_errors():
            response = await self._backend.Concatenate(backend_pb2.ConcatenateRequest(batches=_named(batch_ids)))
        return convert.batch_from(response.batch)

    async def decode(self, batch_ids: Sequence[int]) -> StepResult:
        """Advance leased batches by one token."""
        with _typed_errors():
            return _step_from(await self._backend.Decode(backend_pb2.DecodeRequest(batches=_named(batch_ids))))

    async def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        """Keep only these requests of a leased batch."""
        message = backend_pb2.FilterRequest(batch_id=batch_id, request_ids=request_ids)
        with _typed_errors():
            return convert.batch_from((await self._backend.Filter(message)).batch)

    async def release(self, batch_id: int | None) -> None:
        """Give leased rows back."""
        with _typed_errors():
            await self._backend.Release(backend_pb2.ReleaseRequest(id=batch_id))

    async def aclose(self) -> None:
        """Close the channel; running calls are cancelled."""
        await self._channel.close()


def _seconds_to(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _named(batch_ids: Sequence[int]) -> list[messages_pb2.CachedBatch]:
    return [messages_pb2.CachedBatch(id=batch_id) for batch_id in batch_ids]


def _step_from(message: backend_pb2.PrefillResponse | backend_pb2.DecodeResponse) -> StepResult:
    return StepResult(
        deltas=tuple((delta.request_id, convert.delta_from(delta)) for delta in message.generations),
        batch=convert.batch_from(message.batch) if message.HasField("batch") else None,
        forward_ns=message.forward_ns,
        decode_ns=message.decode_ns,
        total_ns=message.total_ns,
    )
