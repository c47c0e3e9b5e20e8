"""The HTTP server of the gateway on a loopback port, and clients that write bytes by hand."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from runtime.serve.connection import ConnectionLimits
from runtime.serve.http_server import HttpServer

LIMITS = ConnectionLimits(connections=8)
NEVER = 3600.0
"""For limits of time that a test is not about."""
PATIENT = replace(
    LIMITS, head_seconds=NEVER, silence_seconds=NEVER, grace_seconds=NEVER, unread_seconds=NEVER, close_seconds=0.0
)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: Any
    """Parsed, where it is JSON."""


@dataclass
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Write some bytes, whatever they are."""
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self) -> Answer:
        """Read one answer that has a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, json.loads(body) if body.startswith(b"{") else body)

    async def ended(self) -> None:
        """Wait until the server has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(2**16):
                pass


@dataclass
class Listening:
    """A running server."""

    server: HttpServer
    port: int
    clients: list[RawClient] = field(default_factory=list)

    async def client(self, receive_buffer: int | None = None) -> RawClient:
        """Connect; with `receive_buffer` bytes the kernel reads ahead no more than that."""
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**12)
        self.clients.append(RawClient(reader, writer))
        return self.clients[-1]

    async def asked(self, data: bytes) -> Answer:
        """Send bytes on a connection of their own and return the answer."""
        client = await self.client()
        await client.send(data)
        return await client.answer()


@asynccontextmanager
async def listening(
    app: Any, limits: ConnectionLimits = PATIENT, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listening]:
    """Serve an application; limits of time are checked every hundredth of a second."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    server = HttpServer(app, 1, limits, tls, check_seconds=0.01)
    running = Listening(server, listener.getsockname()[1])
    serving = asyncio.ensure_future(server.serve([listener]))
    try:
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield running
    finally:
        for client in running.clients:
            client.writer.close()
            with suppress(ConnectionError):
                await client.writer.wait_closed()
        server.should_exit = True
        await serving
