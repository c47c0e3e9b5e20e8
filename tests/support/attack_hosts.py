"""Web hosts that misbehave, by what they do; each is a `Behaviour` of `support.misbehaving`."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from support.attack_pictures import SVG, endless_scans, half, plain, png, saved
from support.misbehaving import Behaviour, Exchange, answering, misbehaving, ok

NO_ANSWERS: Final = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"220 mail.example ESMTP\r\n",
    b"-ERR unknown command 'GET'\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npn",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\npng",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\npng",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\npng",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\npng",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\npng\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npn",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\npng",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000,
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 60_000,
    b"HTTP/1.1 999999 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA\x00B: c\r\n\r\n",
]
"""Other protocols, broken framing, heads without end, lengths that lie."""

ENCODINGS: Final = ("gzip", "GZIP", "deflate", "br", "zstd", "gzip, identity")
DRIPS: Final = (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
"""What comes at once, before the rest comes byte by byte."""


def redirect(location: str) -> bytes:
    """The answer that leads on."""
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def bomb(encoding: str) -> bytes:
    """An answer of 10 kB that unpacks to 10 MB."""
    return ok(gzip.compress(bytes(10 * 2**20)), f"Content-Encoding: {encoding}")


def silent_after(start: bytes) -> Behaviour:
    """Send the start of an answer and no more."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(start)
        await exchange.hung_up()

    return behave


def dripping(start: bytes, seconds: float = 0.01) -> Behaviour:
    """Send the start of an answer, then byte after byte."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(start)
        gone = asyncio.ensure_future(exchange.hung_up())
        while not (await asyncio.wait({gone}, timeout=seconds))[0]:
            await exchange.send(b"a")

    return behave


async def endless(exchange: Exchange, chunked: bool) -> int:
    """Send a body until the client hangs up; return how many bytes went out."""
    piece = b"8000\r\n" + bytes(0x8000) + b"\r\n" if chunked else bytes(0x8000)
    field = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
    await exchange.send(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n")
    for count in itertools.count():
        try:
            await exchange.send(piece)
        except ConnectionError:
            return count * len(piece)
    raise AssertionError


def endlessly(chunked: bool) -> Behaviour:
    """Send a body until the client hangs up."""

    async def behave(exchange: Exchange) -> None:
        await endless(exchange, chunked)

    return behave


QUICK: Final[dict[str, Behaviour]] = {
    **{f"no-answer-{number}": answering(answer) for number, answer in enumerate(NO_ANSWERS)},
    **{f"status-{status}": answering(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) for status in (204, 500)},
    **{f"compressed-{number}": answering(bomb(encoding)) for number, encoding in enumerate(ENCODINGS)},
    "endless": endlessly(chunked=False),
    "endless-chunks": endlessly(chunked=True),
    "length-beyond-the-limit": silent_after(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
    "length-below-the-truth": answering(ok(b"png") + b"more" * 1000),
    "redirect-loop": answering(redirect("/redirect-loop")),
    "redirect-to-metadata": answering(redirect("http://169.254.169.254/latest/meta-data/")),
    "redirect-to-private": answering(redirect("http://10.0.0.1/")),
    "redirect-to-loopback": answering(redirect("http://localhost/")),
    "redirect-to-a-file": answering(redirect("file:///etc/passwd")),
    "wrong-type": answering(ok(b"<!DOCTYPE html><img src=x>", "Content-Type: image/png")),
    "svg": answering(ok(SVG, "Content-Type: image/svg+xml")),
    "png-of-65535-x-65535": answering(ok(png(65535, 65535))),
    "half-a-png": answering(ok(half(saved(plain(300, 300), "PNG")))),
}
"""By path; refused as fast as the machine goes."""

SLOW: Final[dict[str, Behaviour]] = {
    "silence": silent_after(b""),
    "silence-in-the-body": silent_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npng"),
    "drip-in-the-head": dripping(DRIPS[0]),
    "drip-in-the-body": dripping(DRIPS[1]),
    "endless-scans": answering(ok(endless_scans(2**22))),
}
"""By path; refused when a limit on time is reached."""


@contextmanager
def hosting() -> Iterator[int]:
    """Be all of them on a thread, by path; the port."""
    loop, done, up = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    ports: list[int] = []

    async def host() -> None:
        async with misbehaving(_as_the_path_says) as server:
            ports.append(server.port)
            up.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[host()])
    thread.start()
    up.wait()
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


async def _as_the_path_says(exchange: Exchange) -> None:
    await {**QUICK, **SLOW}[exchange.head.split()[1].strip("/")](exchange)
