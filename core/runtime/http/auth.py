"""Who may ask over HTTP: those who show the key."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.api_key import HOW_TO_SHOW_IT, Key
from runtime.http.error_bodies import error_answer
from runtime.http.errors import Unauthorized

PROBES: Final = frozenset({"/livez", "/readyz", "/health", "/ping"})
"""What orchestrators ask every few seconds; they have no key, and learn nothing but whether the server is well."""


def is_probe(scope: Scope) -> bool:
    """Whether a request only asks how the server is."""
    return scope["method"] in ("GET", "HEAD") and scope["path"] in PROBES


class ApiKey:
    """Lets only requests with `Authorization: Bearer KEY` through, all others are 401."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = Key(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope.get("headers", ()) if name == b"authorization"]
        if scope["type"] != "http" or is_probe(scope) or self._key.is_shown(given):
            await self._app(scope, receive, send)
            return
        refused = error_answer(Unauthorized(HOW_TO_SHOW_IT), scope, {"www-authenticate": "Bearer"})
        await refused(scope, receive, send)
