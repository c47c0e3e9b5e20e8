"""The gateway's listeners, as the settings want them: HTTP, public gRPC, and step operations apart."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.api_key import Key
from runtime.clients import ClientPlaces
from runtime.config import Settings
from runtime.errors import StartupError
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.rpc.door import Door
from runtime.rpc.server import STEP_RPCS, RpcServer
from runtime.runtime import Runtime
from runtime.serve.http_server import HttpServer
from runtime.serve.tls import read_certificate

if TYPE_CHECKING:
    from runtime.telemetry.otlp import Traces

UNIX: Final = "unix:"
OWNER_ONLY: Final = 0o600


class FrontDoor:
    """Makes the servers that clients and operators reach; all count a client's requests together."""

    def __init__(self, settings: Settings) -> None:
        """Raises StartupError when the certificate cannot be used."""
        self._settings = settings
        self._certificate = read_certificate(settings.ssl_certfile, settings.ssl_keyfile)
        self._key = None if settings.api_key is None else Key(settings.api_key)
        limit = settings.max_concurrent_per_client
        self._places = None if limit is None else ClientPlaces(limit)

    def listen(self) -> socket.socket:
        """Bind the HTTP port; before the model is loaded, so that a taken port costs nothing."""
        hostname, port = self._settings.hostname, self._settings.port
        family = socket.AF_INET6 if ":" in hostname else socket.AF_INET
        try:
            return socket.create_server((hostname, port), family=family, backlog=2048)
        except OSError as error:
            reason = (error.strerror or "").partition(" (")[0]  # socket repeats the address in brackets
            message = f"cannot listen on {_authority(hostname, port)}: {reason}; choose another --port or --hostname"
            raise StartupError(message) from error

    def url(self, listener: socket.socket) -> str:
        """Return the address of the HTTP API, with the port in use."""
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://{_authority(self._settings.hostname, listener.getsockname()[1])}"

    def http_server(self, runtime: Runtime, traces: Traces | None, graceful_seconds: int) -> HttpServer:
        """Return the server of the HTTP API; `graceful_seconds` is for answers that are on their way at the end."""
        app = create_app(runtime, _http_options(self._settings), traces, self._places)
        return HttpServer(app, graceful_seconds, tls=None if self._certificate is None else self._certificate.context)

    def grpc_servers(self, runtime: Runtime, traces: Traces | None) -> dict[str, RpcServer]:
        """Return the gRPC servers by what the log calls them: the public one and that of step operations, if any."""
        settings, servers = self._settings, {}
        if settings.grpc_port is not None:
            is_closed = settings.step_rpcs == "off" or settings.admin_listen is not None
            door = self._door(is_closed)
            address = _authority(settings.hostname, settings.grpc_port)
            servers["gRPC"] = RpcServer(runtime, address, settings.payload_limit, traces, door)
        if settings.admin_listen is not None:
            servers["step operations"] = self._admin_server(settings.admin_listen, runtime, traces)
        return servers

    def _admin_server(self, listen: str, runtime: Runtime, traces: Traces | None) -> RpcServer:
        # Who may open a socket's file is the file's to say: routers, which use such sockets, can send no key.
        door = Door() if listen.startswith(UNIX) else self._door(steps_are_off=False)
        server = RpcServer(runtime, listen, self._settings.payload_limit, traces, door)
        if listen.startswith(UNIX):
            Path(listen.removeprefix(UNIX).removeprefix("//")).chmod(OWNER_ONLY)
        return server

    def _door(self, steps_are_off: bool) -> Door:
        return Door(
            key=self._key,
            places=self._places,
            closed=STEP_RPCS if steps_are_off else frozenset(),
            credentials=None if self._certificate is None else self._certificate.for_grpc(),
        )


def _http_options(settings: Settings) -> HttpOptions:
    return HttpOptions(
        payload_limit=settings.payload_limit,
        api_key=settings.api_key,
        cors_allow_origins=settings.cors_allow_origin,
        max_best_of=settings.max_best_of,
        max_client_batch_size=settings.max_client_batch_size,
        max_stop_sequences=settings.max_stop_sequences,
        max_top_n_tokens=settings.max_top_n_tokens,
        messages_api_enabled=settings.messages_api_enabled,
        compute_type=settings.compute_type,
    )


def _authority(hostname: str, port: int) -> str:
    """Return host and port as addresses write them."""
    return f"[{hostname}]:{port}" if ":" in hostname else f"{hostname}:{port}"
