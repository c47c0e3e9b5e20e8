"""The bound on what one client has at work over HTTP."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.clients import ClientPlaces
from runtime.errors import Overloaded
from runtime.http.auth import is_probe
from runtime.http.error_bodies import error_answer


class ClientLimit:
    """Holds a place for each request but probes, from its head to the end of its answer; 429 when there is none."""

    def __init__(self, app: ASGIApp, places: ClientPlaces) -> None:
        self._app = app
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_probe(scope):
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("",))[0]
        with ExitStack() as held:
            try:
                held.enter_context(self._places.place(address))
            except Overloaded as error:
                await error_answer(error, scope)(scope, receive, send)
                return
            await self._app(scope, receive, send)
