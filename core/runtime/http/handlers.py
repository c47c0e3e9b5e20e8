"""An answer for whatever goes wrong."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from runtime.errors import RuntimeServiceError
from runtime.http.error_bodies import error_answer, told
from runtime.http.errors import MalformedBody, UnknownRoute, WrongMethod
from runtime.http.wording import refusal


def add_handlers(app: FastAPI) -> None:
    """Let every error have a status and a body of ours."""
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RuntimeServiceError, _failed)
    app.add_exception_handler(Exception, _failed)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return error_answer(told(error, request.scope), request.scope)


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_answer(refusal(error.errors()[0]), request.scope)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Say in our words what the framework refuses: a body it cannot read, a path or a method it does not know."""
    assert isinstance(error, HTTPException)
    method, path = request.method[:20], request.url.path[:200]
    if error.status_code == UnknownRoute.http_status:
        return error_answer(UnknownRoute(f"there is no {path} here; the routes are listed at /docs"), request.scope)
    if error.status_code == WrongMethod.http_status:
        allowed = (error.headers or {}).get("Allow", "another method")
        refused = WrongMethod(f"{path} does not take {method}; use {allowed}")
        return error_answer(refused, request.scope, error.headers)
    if error.status_code == MalformedBody.http_status:
        return error_answer(MalformedBody("the body is not valid JSON"), request.scope)
    return await _failed(request, error)
