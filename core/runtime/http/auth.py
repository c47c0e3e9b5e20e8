"""The key that clients must show."""

from __future__ import annotations

import hmac
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.http.error_bodies import error_answer
from runtime.http.errors import Unauthorized

OPEN: Final = frozenset({("GET", "/"), ("GET", "/health"), ("GET", "/ping"), ("GET", "/metrics")})
"""What probes ask for, and they have no key."""


class ApiKey:
    """Lets only requests with `Authorization: Bearer KEY` through, all others are 401."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._wanted = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) in OPEN or self._shown(scope):
            await self._app(scope, receive, send)
            return
        error = Unauthorized("send the API key as `Authorization: Bearer KEY`")
        # The body stays unread, so the connection cannot be used again.
        headers = {"www-authenticate": "Bearer", "connection": "close"}
        await error_answer(error, scope, headers)(scope, receive, send)

    def _shown(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)
