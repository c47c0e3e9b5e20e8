"""What there is: leased batches, facts, health, progress."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.backend import DecodeShape, PrefillShape, Shape, VisionShape, WarmupProgress
from runtime.runtime import CachedBatch, Health, Info, Readiness
from runtime.v1 import backend_pb2, messages_pb2

READINESS = {
    Readiness.LOADING: backend_pb2.HealthResponse.READINESS_LOADING,
    Readiness.WARMING: backend_pb2.HealthResponse.READINESS_WARMING,
    Readiness.READY: backend_pb2.HealthResponse.READINESS_READY,
    Readiness.FAILED: backend_pb2.HealthResponse.READINESS_FAILED,
    Readiness.STOPPING: backend_pb2.HealthResponse.READINESS_STOPPING,
}


def batch_from(message: messages_pb2.CachedBatch) -> CachedBatch:
    """Read a leased batch."""
    return CachedBatch(message.id, tuple(message.request_ids), message.max_tokens)


def batch_message(batch: CachedBatch) -> messages_pb2.CachedBatch:
    """Make the message of a leased batch."""
    size = len(batch.request_ids)
    return messages_pb2.CachedBatch(id=batch.id, request_ids=batch.request_ids, size=size, max_tokens=batch.max_tokens)


def batch_ids(messages: Sequence[messages_pb2.CachedBatch]) -> list[int]:
    """Read the ids of batches, all that a caller need give of them."""
    return [message.id for message in messages]


def info_from(message: messages_pb2.InfoResponse) -> Info:
    """Read the facts about what is served."""
    return Info(
        model_id=message.model_id,
        model_digest=message.model_digest,
        architecture=message.architecture,
        dtype=message.dtype,
        backend=message.backend,
        backend_version=message.backend_version,
        contract=message.contract,
        device=message.device_type,
        version=message.version,
        max_input_tokens=message.max_input_tokens,
        max_total_tokens=message.max_total_tokens,
        max_batch_size=message.max_batch_size,
        max_concurrent_requests=message.max_concurrent_requests,
        max_batch_prefill_tokens=message.max_batch_prefill_tokens,
        max_batch_total_tokens=message.max_batch_total_tokens,
        waiting_served_ratio=message.waiting_served_ratio,
        max_waiting_tokens=message.max_waiting_tokens,
        validation_workers=message.validation_workers,
        vision=message.vision,
        details=dict(message.details),
    )


def info_message(info: Info) -> messages_pb2.InfoResponse:
    """Make the message of what is served."""
    return messages_pb2.InfoResponse(
        dtype=info.dtype,
        device_type=info.device,
        model_id=info.model_id,
        model_digest=info.model_digest,
        architecture=info.architecture,
        backend=info.backend,
        backend_version=info.backend_version,
        contract=info.contract,
        version=info.version,
        max_input_tokens=info.max_input_tokens,
        max_total_tokens=info.max_total_tokens,
        max_batch_size=info.max_batch_size,
        max_concurrent_requests=info.max_concurrent_requests,
        max_batch_prefill_tokens=info.max_batch_prefill_tokens,
        max_batch_total_tokens=info.max_batch_total_tokens,
        waiting_served_ratio=info.waiting_served_ratio,
        max_waiting_tokens=info.max_waiting_tokens,
        validation_workers=info.validation_workers,
        vision=info.vision,
        details=info.details,
    )


def health_from(message: backend_pb2.HealthResponse) -> Health:
    """Read the state of a worker."""
    states = {number: state for state, number in READINESS.items()}
    left = message.seconds_left if message.HasField("seconds_left") else None
    return Health(states[message.readiness], message.message, message.busy_seconds, left)


def health_message(health: Health) -> backend_pb2.HealthResponse:
    """Make the message of a worker's state."""
    return backend_pb2.HealthResponse(
        readiness=READINESS[health.readiness],
        message=health.message,
        busy_seconds=health.busy_seconds,
        seconds_left=health.seconds_left,
    )


def progress_from(message: backend_pb2.WarmupResponse) -> WarmupProgress:
    """Read one warmed shape."""
    shape: Shape
    match message.WhichOneof("shape"):
        case "prefill":
            shape = PrefillShape(message.prefill.rows, message.prefill.length, message.prefill.cached)
        case "vision":
            shape = VisionShape(message.vision.tiles)
        case _:
            shape = DecodeShape(message.decode.rows, message.decode.context)
    return WarmupProgress(message.done, message.total, shape, message.seconds)


def progress_message(progress: WarmupProgress) -> backend_pb2.WarmupResponse:
    """Make the message of one warmed shape."""
    message = backend_pb2.WarmupResponse(done=progress.done, total=progress.total, seconds=progress.seconds)
    match progress.shape:
        case PrefillShape(rows, length, cached):
            message.prefill.CopyFrom(backend_pb2.PrefillShape(rows=rows, length=length, cached=cached))
        case DecodeShape(rows, context):
            message.decode.CopyFrom(backend_pb2.DecodeShape(rows=rows, context=context))
        case VisionShape(tiles):
            message.vision.CopyFrom(backend_pb2.VisionShape(tiles=tiles))
    return message
