"""Errors over gRPC: the class name travels beside the status, so that the other side raises the same error."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from runtime.errors import InvalidRequest, NotReady, RuntimeServiceError, error_named

ERROR_KEY: Final = "runtime-error"

log = logging.getLogger(__name__)


@asynccontextmanager
async def aborting(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    """Turn an error of the body into the call's status; of one that is not typed the client learns nothing."""
    try:
        yield
    except RuntimeServiceError as error:
        code = grpc.StatusCode[error.grpc_code]
        await context.abort(code, error.message, trailing_metadata=((ERROR_KEY, type(error).__name__),))
    except Exception:
        log.exception("unexpected error in a gRPC call")
        await context.abort(grpc.StatusCode.INTERNAL, "the server failed; its log has the cause")


def typed(error: grpc.aio.AioRpcError) -> RuntimeServiceError:
    """Return the error that the other side raised; NotReady when the other side is gone."""
    for key, value in error.trailing_metadata() or ():
        found = error_named(str(value)) if key == ERROR_KEY else None
        if found is not None:
            return found(error.details() or "")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return NotReady("the worker does not answer; it is starting or being restarted")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return InvalidRequest("the request is larger than the server takes; see --payload-limit")
    return RuntimeServiceError("the worker failed to answer; the server's log has the cause")
