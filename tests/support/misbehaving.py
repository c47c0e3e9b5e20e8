"""A web server on the loopback that misbehaves as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Behaviour = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One connection, after its request came."""

    def __init__(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        """The request line and the header fields."""
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes; waits while the other side reads no more."""
        self._writer.write(data)
        await self._writer.drain()

    async def hung_up(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionError):
            await self._reader.read()


class MisbehavingServer:
    """What it was asked, and where it is."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self.port = 0
        self.heads: list[str] = []
        """Of every request, in order."""
        self._tasks: set[asyncio.Task[None]] = set()

    def url(self, path: str = "/picture.png") -> str:
        """The address of a path here."""
        return f"http://127.0.0.1:{self.port}{path}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request, then misbehave."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            await self._behave(Exchange(head, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    def stop(self) -> None:
        """End what is still misbehaving."""
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def misbehaving(behave: Behaviour) -> AsyncIterator[MisbehavingServer]:
    """Serve on a free port until the end of the block."""
    server = MisbehavingServer(behave)
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.stop()
        listener.close()


def answering(*parts: bytes) -> Behaviour:
    """Send these bytes, whatever is asked, and end the connection."""

    async def behave(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)

    return behave


def ok(body: bytes, *fields: str) -> bytes:
    """A whole, proper answer; fields may be added."""
    head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*head, "", ""]).encode() + body
