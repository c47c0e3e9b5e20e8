"""A `Runtime` that says what the test told it to say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import NoReturn

from runtime.backend import WarmupProgress
from runtime.cost import ImageCost, PromptCost
from runtime.runtime import (
    CachedBatch,
    Completion,
    Delta,
    FinishReason,
    GenerateRequest,
    Health,
    Info,
    PromptToken,
    Readiness,
    StepRequest,
    StepResult,
    Token,
    Tokenization,
)
from support.serving import info

TOKENS = (PromptToken(1, "<s>", True), PromptToken(7, "one", False, 0, 3), PromptToken(8, " two", False, 3, 7))
"""What every prompt consists of."""
COST = PromptCost(images=(ImageCost(5, 20), ImageCost(3, 12)), cached_tokens=4, bucket=64, padding=7)
"""What every prompt takes; no two of the numbers are the same."""
COST_BODY = {
    "images": [{"tiles": 5, "tokens": 20}, {"tiles": 3, "tokens": 12}],
    "cached_tokens": 4,
    "bucket": 64,
    "padding": 7,
}
"""As TGI's routes tell it."""
DETAILS = {"cached_tokens": 4, "image_tokens": 32, "image_tiles": 8, "bucket": 64, "padding": 7}
"""As OpenAI's routes tell it."""


class ScriptedRuntime:
    """Streams the deltas of the script to every request and raises its exceptions, from any method."""

    def __init__(self, *script: Delta | Exception, health: Health | None = None, vision: bool = True) -> None:
        self.script = script
        self._info = replace(info(), vision=vision)
        self.requests: list[GenerateRequest] = []
        self.closed = 0
        """Streams that ended or were closed."""
        self._health = health or Health(Readiness.READY)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        try:
            for item in self.script:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed += 1

    async def warmup(self) -> AsyncGenerator[WarmupProgress, None]:
        self._fail()
        yield

    async def info(self) -> Info:
        if self.script and isinstance(self.script[0], Exception):
            self._fail()
        return self._info

    async def health(self) -> Health:
        if self.script and isinstance(self.script[0], Exception):
            self._fail()
        return self._health

    async def metrics(self) -> bytes:
        if self.script and isinstance(self.script[0], Exception):
            self._fail()
        return b"rows 4\n"

    async def tokenize(self, request: GenerateRequest) -> Tokenization:
        self.requests.append(request)
        if self.script and isinstance(self.script[0], Exception):
            self._fail()
        return Tokenization(TOKENS, COST)

    async def prefill(self, requests: Sequence[StepRequest]) -> StepResult:
        self._fail()

    async def concatenate(self, batch_ids: Sequence[int]) -> CachedBatch:
        self._fail()

    async def decode(self, batch_ids: Sequence[int]) -> StepResult:
        self._fail()

    async def filter(self, batch_id: int, request_ids: Sequence[int]) -> CachedBatch:
        self._fail()

    async def release(self, batch_id: int | None) -> None:
        self._fail()

    async def aclose(self) -> None: ...

    def _fail(self) -> NoReturn:
        (error,) = self.script
        assert isinstance(error, Exception)
        raise error


class InTurn(ScriptedRuntime):
    """Each request gets the next script."""

    def __init__(self, *scripts: tuple[Delta | Exception, ...]) -> None:
        super().__init__()
        self._scripts = iter(scripts)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        mine = ScriptedRuntime(*next(self._scripts))
        self.requests.append(request)
        try:
            async for delta in mine.generate(request):
                yield delta
        finally:
            self.closed += 1


def token(text: str, id: int = 7, special: bool = False) -> Token:
    """A token whose log-probability is exact in binary."""
    return Token(id, text, -0.5, special)


def last(text: str, *tokens: Token, reason: FinishReason = FinishReason.LENGTH, seed: int | None = None) -> Delta:
    """The last event of a reply with this text, to a prompt of 5 tokens."""
    return Delta(tokens, Completion(text, reason, generated_tokens=3, prompt_tokens=5, seed=seed, cost=COST))
