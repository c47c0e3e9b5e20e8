"""The HTTP application over any `Runtime`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

import runtime as package
from runtime.clients import ClientPlaces
from runtime.http import openai, platforms, service, tgi
from runtime.http.auth import ApiKey
from runtime.http.client_limit import ClientLimit
from runtime.http.error_bodies import ErrorBody, documented
from runtime.http.handlers import add_handlers
from runtime.http.json_limit import JsonLimit
from runtime.http.limits import DocumentedApp
from runtime.http.options import HttpOptions
from runtime.http.payload import PayloadLimit
from runtime.http.replies import Replies
from runtime.http.traced import Traced
from runtime.runtime import Runtime

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces


def create_app(
    runtime: Runtime, options: HttpOptions, traces: Traces | None = None, places: ClientPlaces | None = None
) -> FastAPI:
    """Assemble the routes; `places` bounds what each client has at work."""
    app = DocumentedApp(
        options,
        title="vlm-runtime",
        summary="Vision-language models behind the routes of Text Generation Inference and OpenAI.",
        version=package.__version__,
        docs_url="/docs",
        swagger_ui_oauth2_redirect_url=None,
        redoc_url=None,
        openapi_url="/api-doc/openapi.json",
        redirect_slashes=False,  # the address it would send a client to is made of a header of the client's
        responses=documented(ErrorBody),
    )
    # The last added sees a request first, so refusals of the others have the headers browsers need to show them.
    app.add_middleware(JsonLimit)
    app.add_middleware(PayloadLimit, limit=options.payload_limit)
    if places is not None:
        app.add_middleware(ClientLimit, places=places)
    if options.api_key is not None:
        app.add_middleware(ApiKey, key=options.api_key)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=options.cors_allow_origins or ("*",),
        allow_methods=("GET", "POST"),
        allow_headers=("authorization", "content-type"),
    )
    if traces is not None:
        app.add_middleware(Traced, traces=traces)
    add_handlers(app)
    replies = Replies(runtime, options)
    app.include_router(service.routes(runtime, options))
    app.include_router(tgi.routes(replies))
    app.include_router(openai.routes(replies))
    app.include_router(platforms.routes(replies))
    return app
