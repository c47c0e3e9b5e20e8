"""Replies of a real server, read as they come and held against what they must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Stream:
    """One reply of `/generate_stream`."""

    body: dict[str, Any]
    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Of tokens that are not special."""
    indices: list[int] = field(default_factory=list)
    whole: str | None = None
    """The text of the last event."""
    error: dict[str, Any] | None = None
    status: int = 0
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, http: httpx.AsyncClient) -> None:
        """Read to the end."""
        async with http.stream("POST", "/generate_stream", json=self.body) as response:
            self.status = response.status_code
            if self.status != 200:
                self.error = json.loads(await response.aread())
            async for line in response.aiter_lines():
                if self.status == 200 and line.startswith("data:"):  # others keep the connection alive
                    self._take(json.loads(line.removeprefix("data:")))
        self._grow()

    def _take(self, event: dict[str, Any]) -> None:
        if "error" in event:
            self.error = event
        else:
            self.ids.append(event["token"]["id"])
            self.texts.append("" if event["token"]["special"] else event["token"]["text"])
            self.indices.append(event["index"])
            self.whole = event["generated_text"]
        self._grow()

    def _grow(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.whole is not None or self.error is not None

    async def has(self, count: int) -> None:
        """Wait for so many tokens, or for the end."""
        while len(self.ids) < count and not self.is_over:
            await self.grown.wait()

    @property
    def is_sound(self) -> bool:
        """Whether it ended well, with every token once and in order."""
        in_order = self.indices == list(range(1, len(self.ids) + 1))
        return self.error is None and in_order and self.whole is not None and self.whole.startswith("".join(self.texts))


def sound(streams: Sequence[Stream]) -> list[str | None]:
    """Their texts; fails for a stream with an error, a gap or a repetition."""
    for stream in streams:
        assert stream.is_sound, (stream.error, len(stream.ids), stream.whole, "".join(stream.texts))
    return [stream.whole for stream in streams]


class Streams:
    """Replies that run together."""

    def __init__(self, url: str, bodies: Sequence[dict[str, Any]]) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.AsyncClient(base_url=url, timeout=120, trust_env=False, limits=limits)
        self.all = [Stream(body) for body in bodies]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Streams:
        self._tasks = [asyncio.ensure_future(stream.read(self._http)) for stream in self.all]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def have(self, count: int) -> None:
        """Wait until each has so many tokens, or has ended."""
        await asyncio.gather(*(stream.has(count) for stream in self.all))

    async def grow(self, count: int) -> None:
        """Wait until each has so many tokens more than now, or has ended."""
        await asyncio.gather(*(stream.has(len(stream.ids) + count) for stream in self.all))

    async def end(self) -> None:
        """Wait for all ends; raises what went wrong with a connection."""
        await asyncio.gather(*self._tasks)


async def read(url: str, bodies: Sequence[dict[str, Any]]) -> list[Stream]:
    """Read replies, all at once, to their ends."""
    async with Streams(url, bodies) as streams:
        await streams.end()
        return streams.all
