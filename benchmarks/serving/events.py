"""Server-sent events out of a stream of bytes, at little cost: the driver shares its cores with the server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

FIELD: Final = b"data:"


class EventParser:
    """Takes bytes as they come and gives the data of whole events; comments and other fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> Iterator[bytes]:
        """Yield the data lines that `received` completes."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        for line in lines:
            if line.startswith(FIELD):
                yield line[len(FIELD) :].strip()
