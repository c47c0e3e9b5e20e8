"""One connection of the HTTP server: uvicorn's protocol over h11, with bounds on what these two let grow or wait."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from runtime.errors import RuntimeServiceError
from runtime.http.error_bodies import error_body
from runtime.http.errors import AddressTooLong, HeadTooLarge, MalformedRequest, TooManyConnections, TooSlow

FREE_PIECES: Final = 1000
LEAST_PIECE_BYTES: Final = 64
"""Pieces of a chunked body hold so much on average, but for the first ones: each costs more than its bytes."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a client may take of the server before anything is asked of the model."""

    connections: int
    """Open at once; for one more, the one that has waited longest for a request is closed."""
    address_bytes: int = 2**13
    """Path and query."""
    head_bytes: int = 2**15
    headers: int = 100
    head_seconds: float = 10.0
    """From the start of a connection, or the end of an answer, to the end of the next head."""
    silence_seconds: float = 10.0
    """Between two pieces of a body."""
    grace_seconds: float = 10.0
    body_rate: float = 16_000.0
    """Bytes of a body per second, on average, once the grace is over."""
    unread_seconds: float = 30.0
    unread_rate: float = 1_000.0
    """Bytes per second that a client reads of an answer that waits for it, averaged over these seconds."""
    close_seconds: float = 5.0
    """For what is still on its way when the connection ends, either way."""


class BoundedParser(h11.Connection):
    """h11's parser, which also counts; `refusal` tells why it raised."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__(h11.SERVER, limits.head_bytes)
        self._limits = limits
        self.requests = 0
        """Heads read so far."""
        self.body_bytes = 0
        """Of the last request."""
        self.path = "/"
        self.refusal: RuntimeServiceError = MalformedRequest("this is no HTTP/1.1 request")
        self._pieces = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return h11's next event; raises RemoteProtocolError for what h11 refuses, and for what is beyond a limit."""
        state = self.their_state
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == HeadTooLarge.http_status:
                in_first_line = state is h11.IDLE and b"\n" not in self.trailing_data[0]
                self.refusal = self._address_too_long() if in_first_line else self._headers_too_large()
            raise
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data):
            self._count(len(event.data))
        return event

    def _begin(self, head: h11.Request) -> None:
        self.requests += 1
        self.body_bytes = self._pieces = 0
        self.path = unquote(head.target.partition(b"?")[0].decode("ascii"))
        names = {name for name, _ in head.headers}
        if head.http_version not in (b"1.0", b"1.1"):
            self._refuse(self.refusal)
        if len(head.target) > self._limits.address_bytes:
            self._refuse(self._address_too_long())
        size = sum(len(name) + len(value) for name, value in head.headers)
        if len(head.headers) > self._limits.headers or size > self._limits.head_bytes:
            self._refuse(self._headers_too_large())
        if {b"content-length", b"transfer-encoding"} <= names:  # a proxy may have heeded the other one (RFC 9112, 6.1)
            self._refuse(MalformedRequest("Content-Length and Transfer-Encoding are both given; leave one out"))

    def _count(self, size: int) -> None:
        self.body_bytes += size
        self._pieces += 1
        if self._pieces > FREE_PIECES + self.body_bytes // LEAST_PIECE_BYTES:
            self._refuse(
                MalformedRequest(f"the chunks of the body are below {LEAST_PIECE_BYTES} bytes; send larger ones")
            )

    def _refuse(self, error: RuntimeServiceError) -> None:
        self.refusal = error
        raise h11.RemoteProtocolError(error.message, error_status_hint=error.http_status)

    def _address_too_long(self) -> RuntimeServiceError:
        return AddressTooLong(f"path and query have more than {self._limits.address_bytes} bytes; shorten them")

    def _headers_too_large(self) -> RuntimeServiceError:
        limits = self._limits
        return HeadTooLarge(f"there are more than {limits.headers} headers or {limits.head_bytes} bytes; send fewer")


class BoundedConnection(H11Protocol):
    """Serves one client; the server calls `check` every so often."""

    def __init__(self, limits: ConnectionLimits, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.conn: BoundedParser = BoundedParser(limits)
        self._limits = limits
        self._is_over = False
        """Whether the last answer is written, and what still comes is dropped."""
        self._phase = (False, True, 0)
        """What the client is to do next, as of `_since`: not ending, waiting, after so many requests."""
        self._since = self._heard = self.loop.time()
        self._unread: tuple[float, int] | None = None
        """Bytes that wait for the client to read on, and when they were counted."""

    @property
    def is_waiting(self) -> bool:
        """Whether no request is at work here."""
        return self.conn.their_state is h11.IDLE and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: object) -> None:
        """Serve, if need be in the place of who waits without asking."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) <= self._limits.connections:
            return
        waiting = [each for each in self.connections if isinstance(each, BoundedConnection) and each.is_waiting]
        longest = min(waiting, key=lambda each: each._since)
        if longest is self:
            self._refuse(TooManyConnections(f"all {self._limits.connections} connections are busy; try again later"))
        else:
            longest.transport.abort()
            self.connections.discard(longest)  # it counts no more, though it is told of its end later

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if not self._is_over and not self.transport.is_closing():
            self._heard = self.loop.time()
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Say in our words what the parser refused; uvicorn's are for its log."""
        self._refuse(self.conn.refusal)

    def resume_writing(self) -> None:
        """The client has read enough."""
        self._unread = None
        super().resume_writing()

    def check(self) -> None:
        """End the connection when its client is too slow at whatever is its turn."""
        now, limits = self.loop.time(), self._limits
        is_ending = self._is_over or self.transport.is_closing() or self._is_discarding
        phase = (is_ending, self.is_waiting, self.conn.requests)
        if phase != self._phase:
            self._phase, self._since = phase, now
        waited = now - self._since
        unread = self.transport.get_write_buffer_size()
        if unread and (is_ending or self.flow.write_paused):
            self._check_reader(now, unread)
        elif is_ending:
            if waited > limits.close_seconds:
                self.transport.abort()
        elif self.is_waiting:
            if waited > limits.head_seconds:
                self._refuse(TooSlow(f"no whole request came within {limits.head_seconds:g} s"))
        elif self.conn.their_state is h11.SEND_BODY and not self.flow.read_paused:
            is_slow = self.conn.body_bytes < limits.body_rate * (waited - limits.grace_seconds)
            if now - self._heard > limits.silence_seconds or is_slow:
                self._refuse(TooSlow("the body came too slowly; send it faster"))

    @property
    def _is_discarding(self) -> bool:
        """Whether the request is answered while its body still comes."""
        return self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete

    def _check_reader(self, now: float, unread: int) -> None:
        since, before = self._unread = self._unread or (now, unread)
        if now - since < self._limits.unread_seconds:
            return
        if before - unread < self._limits.unread_rate * (now - since):
            self.transport.abort()  # which ends the request, as any hang-up does
        self._unread = now, unread

    def _refuse(self, error: RuntimeServiceError) -> None:
        """Answer with an error, where an answer can begin still, and end the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # so that the application sends nothing after this
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps(error_body(error, {"path": self.conn.path})).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        for event in (h11.Response(status_code=error.http_status, headers=headers), h11.Data(body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._is_over = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():  # closed with bytes unread, it would be reset, and the answer lost
            self.transport.write_eof()
        else:
            self.transport.close()
