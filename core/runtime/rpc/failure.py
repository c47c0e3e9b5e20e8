"""Errors over gRPC: the class name travels beside the status, so that the other side raises the same error."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from runtime.errors import DeadlineExceeded, InvalidRequest, NotReady, RuntimeServiceError, error_named

ERROR_KEY: Final = "runtime-error"
RETRY_KEY: Final = "retry-after"
"""Its value is that of HTTP's header: whole seconds."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def aborting(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    """Turn an error of the body into the call's status; of one that is not typed the client learns nothing."""
    try:
        yield
    except RuntimeServiceError as error:
        code = grpc.StatusCode[error.grpc_code]
        await context.abort(code, error.message, trailing_metadata=_metadata(error))
    except Exception:
        log.exception("unexpected error in a gRPC call")
        await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log has the cause")


def typed(error: grpc.aio.AioRpcError) -> RuntimeServiceError:
    """Return the error that the other side raised; NotReady when the other side is gone."""
    metadata = {key: str(value) for key, value in error.trailing_metadata() or ()}
    found = error_named(metadata.get(ERROR_KEY, ""))
    if found is not None:
        seconds = metadata.get(RETRY_KEY, "")
        return found(error.details() or "", float(seconds) if seconds.isdecimal() else None)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the deadline passed before the reply was whole; allow more time")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return NotReady("the worker does not answer; it is starting or being restarted")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return InvalidRequest("the request is larger than the server takes; see --payload-limit")
    return RuntimeServiceError("the worker failed to answer; the server's log has the cause")


def _metadata(error: RuntimeServiceError) -> tuple[tuple[str, str], ...]:
    """Return what travels beside the status: the class, and when to try again."""
    named = (ERROR_KEY, type(error).__name__)
    return (named,) if error.retry_seconds is None else (named, (RETRY_KEY, str(error.retry_seconds)))
