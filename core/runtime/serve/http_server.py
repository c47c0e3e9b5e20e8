"""The HTTP server: uvicorn as a part of the gateway, with bounds on its connections."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from runtime.serve.connection import BoundedConnection, ConnectionLimits

CHECK_SECONDS: Final = 0.5
"""Between two looks at all connections; limits of time are kept no more exactly than that."""
MOST_CONNECTIONS: Final = 2048
BACKLOG: Final = 2048


class HttpServer(uvicorn.Server):
    """Serves until `should_exit`. It has no signal handlers: the gateway has its own, for all that it runs."""

    def __init__(
        self,
        app: Callable[..., Any],
        graceful_seconds: int,
        limits: ConnectionLimits | None = None,
        tls: ssl.SSLContext | None = None,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """`graceful_seconds` is the time that clients have to take their answers when the server ends."""
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # below that, it tells of each client's mistakes
            access_log=False,
            proxy_headers=False,  # clients write those themselves
            server_header=False,
            timeout_graceful_shutdown=graceful_seconds,
        )
        super().__init__(config)
        self._limits = limits or ConnectionLimits(connections_allowed())
        self._tls = tls
        self._check_seconds = check_seconds

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on sockets that are bound already."""
        checking = asyncio.ensure_future(self._check())
        try:
            await super().serve(sockets)
        finally:
            checking.cancel()

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Begin to accept, as uvicorn does, with our connections and a limit on the time of a TLS handshake."""
        loop = asyncio.get_running_loop()
        handshake_seconds = None if self._tls is None else self._limits.head_seconds
        self.servers = [
            await loop.create_server(
                lambda: BoundedConnection(self._limits, self.config, self.server_state),
                sock=each,
                ssl=self._tls,
                ssl_handshake_timeout=handshake_seconds,
                backlog=BACKLOG,
            )
            for each in sockets or ()
        ]
        self.started = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(self._check_seconds)
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedConnection):
                    connection.check()


def connections_allowed() -> int:
    """Return half of the files that the process may open, as the other half is for the worker, gRPC and the rest."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MOST_CONNECTIONS, max(1, files // 2))
