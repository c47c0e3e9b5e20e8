"""The HTTP application over any `Runtime`."""

from __future__ import annotations

from fastapi import FastAPI

import runtime as package
from runtime.http import openai, tgi
from runtime.http.errors import add_handlers
from runtime.http.payload import PayloadLimit
from runtime.runtime import Runtime


def create_app(runtime: Runtime, payload_limit: int) -> FastAPI:
    """Assemble the routes; `payload_limit` bounds a request's body, bytes."""
    app = FastAPI(title="vlm-runtime", version=package.__version__, redoc_url=None)
    app.add_middleware(PayloadLimit, limit=payload_limit)
    add_handlers(app)
    app.include_router(tgi.routes(runtime))
    app.include_router(openai.routes(runtime))
    return app
