"""Every error as JSON `{"error": ..., "error_type": ...}`, the shape of TGI."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from runtime.errors import InvalidRequest, RuntimeServiceError

log = logging.getLogger(__name__)


def error_body(error: RuntimeServiceError) -> dict[str, str]:
    """Return the body for a typed error; TGI puts a prefix before texts of validation."""
    prefix = "Input validation error: " if isinstance(error, InvalidRequest) else ""
    return {"error": prefix + error.message, "error_type": error.error_type}


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
    return JSONResponse(error_body(RuntimeServiceError("the server failed; its log has the cause")), 500)
