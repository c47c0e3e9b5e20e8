"""HTTP without a socket: httpx for contents, and an exchange driven by hand for what happens while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.runtime import Runtime
from starlette.types import ASGIApp

PAYLOAD_LIMIT = 10_000


@asynccontextmanager
async def client(runtime: Runtime, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application over a runtime; bodies arrive whole."""
    app = create_app(runtime, HttpOptions(PAYLOAD_LIMIT, **options))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
        yield http


def events(text: str) -> list[dict[str, Any]]:
    """The chunks of a stream of OpenAI's, which must end with the end mark."""
    *frames, done, rest = text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def text_of(answer: httpx.Response) -> str:
    """What an error says, whichever of the two forms it has."""
    error = answer.json()["error"]
    text: str = error["message"] if isinstance(error, dict) else error
    return text


class Exchange:
    """One POST whose client reads message by message and hangs up when told.

    Follows version 2.3 of the ASGI specification, as uvicorn does: the application is told of a hang-up by
    `http.disconnect`, and may send on.
    """

    def __init__(self, app: ASGIApp, path: str, body: object) -> None:
        """The request is on its way at once; use in the event loop."""
        self._body: bytes | None = json.dumps(body).encode()
        self._gone = asyncio.Event()
        self._listened = asyncio.Event()
        self._sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.writable = asyncio.Event()
        """Cleared: the client does not read, and the application must wait."""
        self.writable.set()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "client": ("client", 1),
            "server": ("server", 80),
        }
        self.ended = asyncio.ensure_future(app(scope, self._receive, self._send))
        """Done when the application has nothing more to do for this request."""

    async def status(self) -> int:
        """Wait for the answer to begin."""
        message = await self._sent.get()
        assert message["type"] == "http.response.start"
        status: int = message["status"]
        return status

    async def piece(self) -> bytes:
        """Wait for the next piece of the body."""
        message = await self._sent.get()
        assert message["type"] == "http.response.body"
        body: bytes = message.get("body", b"")
        return body

    async def accepted(self) -> None:
        """Wait until the application has read the body and listens for a hang-up."""
        await self._listened.wait()

    async def hang_up(self) -> None:
        """Go away, and wait until the application is done."""
        self._gone.set()
        await self.ended

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        self._listened.set()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self._sent.put_nowait(message)
        await self.writable.wait()
