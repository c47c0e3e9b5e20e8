"""The pictures of requests: fetched, decoded and cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from runtime.intake.cut import CutPicture
from runtime.intake.decoders import Decoders
from runtime.intake.fetch import Fetcher
from runtime.intake.limits import IntakeLimits
from runtime.intake.source import is_remote, picture_bytes
from runtime.runtime import ImagePart, ImageUrlPart

Result = TypeVar("Result")

AT_ONCE: Final = 4
"""Pictures of one request that are worked on together, so that no request takes every place there is."""


class PictureIntake:
    """Takes in the pictures of requests; holds no thread while one is fetched. Lives on one event loop."""

    def __init__(self, fetcher: Fetcher, decoders: Decoders, limits: IntakeLimits) -> None:
        self._fetcher = fetcher
        self._decoders = decoders
        self._limits = limits
        # Held until the picture is decoded, so that it also bounds the bytes that wait for a decoder.
        self._places = asyncio.Semaphore(fetcher.limits.in_flight)

    def start(self) -> None:
        """Start the processes ahead of the first picture, and do not wait; raises RuntimeServiceError."""
        self._decoders.start()

    async def take(self, parts: Sequence[ImagePart | ImageUrlPart]) -> list[CutPicture]:
        """Return the pictures in order; raises ImageRefused for one that cannot be used, and gives up the others.

        A caller who no longer wants them cancels, which ends what is being fetched.
        """
        places = asyncio.Semaphore(AT_ONCE)

        async def one(part: ImagePart | ImageUrlPart, index: int) -> CutPicture:
            async with places:
                return await self._one(part, index)

        return await _all_or_none([one(part, index) for index, part in enumerate(parts)])

    def close(self) -> None:
        """End the processes; pictures in them are refused."""
        self._fetcher.close()
        self._decoders.close()

    async def _one(self, part: ImagePart | ImageUrlPart, index: int) -> CutPicture:
        if not isinstance(part, ImageUrlPart) or not is_remote(part):
            return await self._decoders.cut(partial(picture_bytes, part, index, self._limits), index)
        async with self._places:
            began = time.perf_counter()
            data = await self._fetcher.fetch(part.url, index)
            fetched = time.perf_counter() - began
            with self._fetcher.fetches.used():
                picture = await self._decoders.cut(lambda: data, index)
        return replace(picture, seconds={**picture.seconds, "fetch": fetched})


async def _all_or_none(works: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
