"""What crosses between the server and a process that decodes pictures: fixed headers and raw bytes.

Nothing here can name code, as a pickle could, so that a decoder taken over by a picture gains only what it is: a
process without secrets that answers with numbers.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

READY: Final = b"R"
"""Sent once by a decoder, when it has imported all and bound itself."""

ASK: Final = struct.Struct(">IQ")
"""A picture to decode: its place in the request, the bytes that follow."""

ANSWER: Final = struct.Struct(">BIII32sIIQ")
"""Outcome, height, width, tiles, digest, microseconds of decoding and of cutting, the bytes that follow."""

CUT: Final = 0
"""Outcome: the tiles follow."""
REFUSED: Final = 1
"""Outcome: the text of the refusal follows, in UTF-8."""
LONGEST_TEXT: Final = 1000
"""Bytes of a refusal."""


def receive(connection: socket.socket, length: int, deadline: float | None = None) -> bytearray:
    """Return exactly `length` bytes; `deadline` is on the monotonic clock.

    Raises EOFError when the other side ends and TimeoutError at the deadline.
    """
    data = bytearray(length)
    missing = memoryview(data)
    while missing:
        connection.settimeout(_left(deadline))
        count = connection.recv_into(missing)
        if count == 0:
            raise EOFError
        missing = missing[count:]
    return data


def send(connection: socket.socket, *parts: bytes | memoryview, deadline: float | None = None) -> None:
    """Send parts one after the other; raises OSError when the other side ended and TimeoutError at the deadline."""
    for part in parts:
        connection.settimeout(_left(deadline))
        connection.sendall(part)


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
