"""What a public gRPC listener asks of callers before a service sees the call; the worker's own socket asks nothing.

Each rule is an interceptor. What a rule refuses is answered at once, whatever kind of method it is, and no message is
read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Set
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import grpc
from grpc import HandlerCallDetails as Details
from grpc.aio import ServicerContext as Context

from runtime.api_key import HOW_TO_SHOW_IT, Key
from runtime.clients import ClientPlaces
from runtime.errors import InvalidRequest, RuntimeServiceError
from runtime.rpc.failure import aborting

HEALTH: Final = "/grpc.health.v1.Health/"
REFLECTION: Final = "/grpc.reflection."
MESSAGE_SECONDS: Final = 30.0
"""From the start of a call to its message, which may be a picture."""
UNREAD_SECONDS: Final = 30.0
"""That a message of an answer may wait for its reader."""

OPTIONS: Final = (
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", 2**14),
    ("grpc.absolute_max_metadata_size", 2**15),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
)
"""Bounds on a connection: calls at once, bytes of metadata, how long it may be idle, dead or only ping."""
CALLS: Final = 4096
"""Calls at work on a listener; one more is refused."""

Continuation = Callable[[Details], Awaitable[grpc.RpcMethodHandler | None]]


class Unauthenticated(RuntimeServiceError):
    """The API key is missing or wrong."""

    grpc_code = "UNAUTHENTICATED"
    http_status = 401


class SwitchedOff(RuntimeServiceError):
    """The operator does not offer this method here."""

    grpc_code = "PERMISSION_DENIED"
    http_status = 403


class TooSlow(RuntimeServiceError):
    """The client does not send, or does not read."""

    grpc_code = "DEADLINE_EXCEEDED"
    http_status = 408


@dataclass(frozen=True, slots=True)
class Door:
    """Who may call what."""

    key: Key | None = None
    places: ClientPlaces | None = None
    closed: Set[str] = frozenset()
    """Methods that are refused, as `/package.Service/Method`."""
    credentials: grpc.ServerCredentials | None = None
    message_seconds: float = MESSAGE_SECONDS
    unread_seconds: float = UNREAD_SECONDS

    def interceptors(self) -> Iterator[grpc.aio.ServerInterceptor]:
        """Yield the rules, the first first."""
        if self.key is not None:
            yield KeyRule(self.key)
        if self.closed:
            yield ClosedRule(self.closed)
        yield PatienceRule(self.places, self.message_seconds, self.unread_seconds)


class KeyRule(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Every method but those of grpc.health.v1 needs the key, those that do not exist included."""

    def __init__(self, key: Key) -> None:
        self._key = key

    async def intercept_service(self, continuation: Continuation, details: Details) -> grpc.RpcMethodHandler | None:
        """Hand on, or refuse."""
        given = [_bytes(value) for name, value in details.invocation_metadata or () if name == "authorization"]
        if details.method.startswith(HEALTH) or self._key.is_shown(given):
            return await continuation(details)
        return _refusing(Unauthenticated(HOW_TO_SHOW_IT))


class ClosedRule(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Some methods are not offered."""

    def __init__(self, methods: Set[str]) -> None:
        self._methods = methods

    async def intercept_service(self, continuation: Continuation, details: Details) -> grpc.RpcMethodHandler | None:
        """Hand on, or refuse."""
        if details.method not in self._methods:
            return await continuation(details)
        name = details.method.rpartition("/")[2]
        return _refusing(SwitchedOff(f"{name} is a step operation, and off here; see --step-rpcs and --admin-listen"))


class PatienceRule(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """A call of our services has one message, in time, and its answer is read in time; meanwhile it holds a place.

    A stream that is opened and left, or not read, would else hold its memory and its place for ever.
    """

    def __init__(self, places: ClientPlaces | None, message_seconds: float, unread_seconds: float) -> None:
        self._places = places
        self._message_seconds = message_seconds
        self._unread_seconds = unread_seconds

    async def intercept_service(self, continuation: Continuation, details: Details) -> grpc.RpcMethodHandler | None:
        """Hand on; a handler of ours is replaced by one that waits no longer than it may."""
        handler = await continuation(details)
        if handler is None or details.method.startswith((HEALTH, REFLECTION)):
            return handler

        async def serve(requests: AsyncIterator[bytes], context: Context) -> None:
            try:
                with self._place(context):
                    request = _read(handler, await self._first(requests))
                    await self._answer(handler, request, context)
            except RuntimeServiceError as error:  # of this rule: those of the service have ended the call already
                async with aborting(context):
                    raise error

        return grpc.stream_stream_rpc_method_handler(serve, None, handler.response_serializer)

    @contextmanager
    def _place(self, context: Context) -> Iterator[None]:
        if self._places is None:
            yield
            return
        with self._places.place(address_of(context.peer())):
            yield

    async def _first(self, requests: AsyncIterator[bytes]) -> bytes:
        try:
            return await asyncio.wait_for(anext(requests), self._message_seconds)
        except asyncio.TimeoutError:
            raise TooSlow(f"no message came within {self._message_seconds:g} s") from None
        except StopAsyncIteration:
            raise InvalidRequest("the call ended before its message") from None

    async def _answer(self, handler: grpc.RpcMethodHandler, request: Any, context: Context) -> None:
        if not handler.response_streaming:
            await self._write(context, await handler.unary_unary(request, context))
            return
        async with aclosing(handler.unary_stream(request, context)) as messages:
            async for message in messages:
                await self._write(context, message)

    async def _write(self, context: Context, message: Any) -> None:
        try:
            await asyncio.wait_for(context.write(message), self._unread_seconds)
        except asyncio.TimeoutError:
            raise TooSlow(f"the answer was not read for {self._unread_seconds:g} s") from None


def address_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as `ipv4:1.2.3.4:5` or `ipv6:%5B::1%5D:5`."""
    kind, _, place = unquote(peer).partition(":")
    return place.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


def _read(handler: grpc.RpcMethodHandler, message: bytes) -> Any:
    try:
        return handler.request_deserializer(message)
    except Exception:  # protobuf has several
        raise InvalidRequest("the message cannot be read; is it of the type that the method takes?") from None


def _refusing(error: RuntimeServiceError) -> grpc.RpcMethodHandler:
    async def refuse(_requests: AsyncIterator[bytes], context: Context) -> None:
        async with aborting(context):
            raise error

    return grpc.stream_stream_rpc_method_handler(refuse)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
