"""Requests to prompts as a server makes them: text on threads, pictures in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from runtime.intake.pictures import PictureIntake
from runtime.prompt.builder import Draft, Prompt, PromptBuilder
from runtime.runtime import GenerateRequest


class PromptPreparer:
    """Joins a builder and an intake of pictures. Safe to use from several threads."""

    def __init__(self, builder: PromptBuilder, intake: PictureIntake | None) -> None:
        """`intake` is None for a model that takes no pictures."""
        self._builder = builder
        self._intake = intake

    def start(self) -> None:
        """Start the processes for pictures ahead of the first one, and do not wait."""
        if self._intake is not None:
            self._intake.start()

    def prepare(self, request: GenerateRequest) -> Prompt | PendingPrompt:
        """Do the CPU work that comes before pictures, and all of it where there are none; raises InvalidRequest."""
        draft = self._builder.draft(request)
        if self._intake is None or not draft.pictures:
            return self._builder.finish(draft, ())
        return PendingPrompt(self._builder, draft, self._intake)

    def close(self) -> None:
        """End the processes; requests whose pictures are in them are refused."""
        if self._intake is not None:
            self._intake.close()


class PendingPrompt:
    """A prompt without its pictures yet: await it on the intake's event loop, where no thread waits for them."""

    def __init__(self, builder: PromptBuilder, draft: Draft, intake: PictureIntake) -> None:
        self._builder = builder
        self._draft = draft
        self._intake = intake

    # Not a coroutine made by `prepare`, which would warn when its request is cancelled before it is awaited.
    def __await__(self) -> Generator[Any, None, Prompt]:
        """Raise ImageRefused and other InvalidRequests."""
        return self._complete().__await__()

    async def _complete(self) -> Prompt:
        pictures = await self._intake.take(self._draft.pictures)
        return await asyncio.to_thread(self._builder.finish, self._draft, pictures)
