"""The body of an error: OpenAI's envelope on OpenAI's routes, TGI's flat shape on all others.

Both have TGI's `error_type`, so that a program written for TGI can read it on any route.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.types import Scope

from runtime.errors import InvalidRequest, RuntimeServiceError
from runtime.http.naming import field_at_fault, names_of, renamed

log = logging.getLogger(__name__)

OPENAI_PREFIX: Final = "/v1"
PREFIX: Final = "Input validation error: "
"""What TGI puts before texts of validation."""
UNEXPECTED: Final = "the server failed; its log has the cause"
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


class ErrorBody(BaseModel):
    """What went wrong, as TGI tells it."""

    error: str = Field(description="For a person: the value, the limit and the remedy.")
    error_type: str = Field(description="For a program.", examples=["validation"])


class OpenAIError(BaseModel):
    """What went wrong."""

    message: str = Field(description="For a person: the value, the limit and the remedy.")
    type: str = Field(description="The kind of error.", examples=["invalid_request_error"])
    param: str | None = Field(description="The field at fault, when there is one.", examples=["max_tokens"])
    code: str = Field(description="The error itself, for a program.", examples=["context_length_exceeded"])


class OpenAIErrorBody(BaseModel):
    """What went wrong, as OpenAI tells it."""

    error: OpenAIError
    error_type: str = Field(description="TGI's kind of error.", examples=["validation"])


def documented(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return what a route's documentation tells of errors with this body."""
    return {status: {"model": model, "description": meaning} for status, meaning in MEANINGS.items()}


def error_body(error: RuntimeServiceError, scope: Scope) -> dict[str, Any]:
    """Return the body of an error for the route of `scope`."""
    names = names_of(scope)
    # Half of a surrogate pair, which a message may repeat from a request, cannot be sent.
    text = renamed(error.message, names).encode("utf-8", "replace").decode()
    if not _is_openai(scope["path"]):
        return {"error": PREFIX * isinstance(error, InvalidRequest) + text, "error_type": error.error_type}
    envelope = {
        "message": text,
        "type": error.openai_type,
        "param": field_at_fault(error, names),
        "code": error.openai_code,
    }
    return {"error": envelope, "error_type": error.error_type}


def error_answer(error: RuntimeServiceError, scope: Scope, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer that tells an error, and when to try again where that may help."""
    retry = {} if error.retry_seconds is None else {"retry-after": str(error.retry_seconds)}
    return JSONResponse(error_body(error, scope), error.http_status, {**retry, **(headers or {})})


def told(error: Exception, scope: Scope) -> RuntimeServiceError:
    """Return what a client may know of an error; the log has what it may not."""
    if isinstance(error, RuntimeServiceError):
        return error
    log.error("unexpected error in %s", scope["path"], exc_info=error)
    return RuntimeServiceError(UNEXPECTED)


def _is_openai(path: str) -> bool:
    return path == OPENAI_PREFIX or path.startswith(OPENAI_PREFIX + "/")
