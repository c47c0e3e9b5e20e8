"""A span for each HTTP request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.http.auth import is_probe

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces


POLLED: Final = frozenset({("GET", "/"), ("GET", "/metrics")})
"""What is asked for every few seconds, as probes are."""


class Traced:
    """Traces requests, but not what probes and monitoring ask for every few seconds."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_probe(scope) or (scope["method"], scope["path"]) in POLLED:
            await self._app(scope, receive, send)
            return
        with self._traces.request(scope) as span:

            async def told(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.answered(message["status"])
                await send(message)

            await self._app(scope, receive, told)
