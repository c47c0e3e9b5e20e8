"""A client that streams replies of TGI's /generate_stream and notes when each token comes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from benchmarks.serving.events import EventParser
from benchmarks.serving.figures import Reply

REPLY_SECONDS: Final = 300
"""A reply that takes longer never comes: the slowest, of `full`, takes less than a minute."""
BUFFER: Final = 2**20


class DriverError(Exception):
    """The server did not answer as it should."""


def drive(port: int, inputs: Sequence[str], new_tokens: int) -> list[Reply]:
    """Ask all at once; return the replies in the order of the prompts. Raises DriverError."""
    requests = [_request(prompt, new_tokens) for prompt in inputs]  # before any clock runs

    async def ask() -> list[Reply]:
        replies = asyncio.gather(*(_reply(port, request, new_tokens) for request in requests))
        try:
            return list(await asyncio.wait_for(replies, REPLY_SECONDS))
        except asyncio.TimeoutError:
            raise DriverError(f"the server did not answer within {REPLY_SECONDS} s") from None

    return asyncio.run(ask())


def _request(inputs: str, new_tokens: int) -> bytes:
    parameters = {"max_new_tokens": new_tokens, "do_sample": False, "details": True}
    body = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    head = (
        "POST /generate_stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _reply(port: int, request: bytes, new_tokens: int) -> Reply:
    asked = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=BUFFER)
    writer.write(request)
    times: list[float] = []
    parser, last = EventParser(), b""
    try:
        async for received in _body(reader):
            now = time.perf_counter()
            for event in parser.feed(received):
                times.append(now)
                last = event
    finally:
        writer.close()
    details = json.loads(last or b"{}").get("details")
    if details is None or len(times) != new_tokens:
        raise DriverError(f"{len(times)} events came for {new_tokens} tokens, the last is {last[:200]!r}")
    return Reply(asked, tuple(times), details["input_length"])


async def _body(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the chunks of a reply's body as they come (RFC 9112, 7.1)."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if " 200 " not in head.partition("\r\n")[0] or "transfer-encoding: chunked" not in head:
        raise DriverError(f"the server answered {head.splitlines()[0]}: {(await reader.read(500))!r}")
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
