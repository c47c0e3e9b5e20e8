"""Every error as JSON `{"error": ..., "error_type": ...}`, the shape of TGI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from runtime.errors import InvalidRequest, RuntimeServiceError

log = logging.getLogger(__name__)


class ErrorBody(BaseModel):
    """What went wrong."""

    error: str = Field(description="For a person: the value, the limit and the remedy.")
    error_type: str = Field(description="For a program.", examples=["validation"])


MEANINGS: Final = {
    400: "The body is not JSON.",
    401: "The API key is missing or wrong.",
    413: "The body is too large.",
    422: "A field has a value that can never work.",
    424: "The model failed on this request.",
    429: "The server is full; try again later.",
    500: "The server failed.",
    503: "The model is not ready; try again later.",
}
UNEXPECTED: Final = "the server failed; its log has the cause"
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorBody, "description": meaning} for status, meaning in MEANINGS.items()
}
"""For the documentation of routes."""


def error_body(error: RuntimeServiceError) -> dict[str, str]:
    """Return the body for a typed error; TGI puts a prefix before texts of validation."""
    prefix = "Input validation error: " if isinstance(error, InvalidRequest) else ""
    # Half of a surrogate pair, which a message may repeat from a request, cannot be sent.
    message = error.message.encode("utf-8", "replace").decode()
    return {"error": prefix + message, "error_type": error.error_type}


def stream_error_body(error: Exception) -> dict[str, str]:
    """Return the body for an error after the status was sent; of one that is not typed only the log tells."""
    if isinstance(error, RuntimeServiceError):
        return error_body(error)
    log.error("unexpected error in a stream", exc_info=error)
    return error_body(RuntimeServiceError(UNEXPECTED))


def add_handlers(app: FastAPI) -> None:
    """Answer whatever goes wrong in the one shape."""
    app.add_exception_handler(RuntimeServiceError, _typed)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _unexpected)


async def _typed(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RuntimeServiceError)
    return JSONResponse(error_body(error), error.http_status)


async def _malformed(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse(error_body(InvalidRequest("the body is not valid JSON")), 400)
    return JSONResponse(error_body(InvalidRequest(_sentence(first))), InvalidRequest.http_status)


def _sentence(problem: Mapping[str, Any]) -> str:
    path = ".".join(str(step) for step in problem["loc"] if step != "body")
    return (
        f"`{path}`: {problem['msg']}"
        if path
        else "the body must be a JSON object, sent as `Content-Type: application/json`"
    )


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail, "error_type": "validation"}, error.status_code, error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error in %s", request.url.path, exc_info=error)
    return JSONResponse(error_body(RuntimeServiceError(UNEXPECTED)), 500)
