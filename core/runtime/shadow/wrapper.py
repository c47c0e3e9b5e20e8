"""The wrapper around the backend that serves: which rows are compared, and what is copied of them.

On the hot path, so it computes nothing. Logits of a step are read when the next one begins: on an asynchronous device
the step is done by then, for its tokens have been chosen, and nobody waits.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import torch

from runtime.backend import Capacity, DecodeBatch, DecodeOutput, ModelSpec, PrefillBatch, PrefillOutput
from runtime.hookspecs import hookimpl
from runtime.shadow.held import Held
from runtime.verify.run import COMPUTE_DTYPE

SEED: Final = 1
"""Of the draws: the n-th prompt of a server is followed, or it is not."""
TOGETHER: Final = 4
"""Rows that are followed at once."""
LONGEST: Final = 64
"""Tokens of a reply that are compared; its logits wait in memory until the whole row is."""

Drop = Literal["busy", "unknown", "failed"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Followed:
    """A row that is to be compared."""

    slot: int
    prompt: Held
    dtype: str
    """What the backend computes in."""
    logits: list[torch.Tensor] = field(default_factory=list)
    """After the prompt and after each token of the reply, [vocabulary] on the cpu."""
    reply: list[int] = field(default_factory=list)
    """What was decoded; the last of it may have no logits."""
    ended: bool = False


class Comparing(Protocol):
    """Where rows go that are to be compared; nothing here blocks."""

    @property
    def is_busy(self) -> bool:
        """Whether a row would be dropped now."""
        ...

    def put(self, row: Followed) -> None: ...

    def drop(self, reason: Drop) -> None:
        """Count a row that was to be compared and is not."""
        ...


class Shadow:
    """Follows a share of the prompts and their replies. A failure of its own ends the shadow, and no request."""

    def __init__(self, model: ModelSpec, rate: float, comparing: Comparing) -> None:
        self._model = model
        self._rate = rate
        self._comparing = comparing
        self._chance = random.Random(SEED)  # noqa: S311
        self._capacity = Capacity(0, 0)
        self._held: dict[int, Held] = {}
        """By slot, as far as it is known."""
        self._followed: dict[int, Followed] = {}
        self._unread: list[tuple[Followed, torch.Tensor]] = []
        """Logits of the last step, [1, vocabulary] on the device."""
        self._failed = False

    @hookimpl(wrapper=True)
    def capacity(self) -> Generator[None, Capacity | None, Capacity | None]:
        capacity = yield
        self._capacity = capacity or self._capacity
        return capacity

    @hookimpl(wrapper=True)
    def prefill(self, batch: PrefillBatch) -> Generator[None, PrefillOutput, PrefillOutput]:
        self._safely(self._read)
        self._safely(lambda: self._end(batch.slots.tolist()))
        try:
            output = yield
        except BaseException:
            self._forget(batch.slots.tolist())
            raise
        self._safely(lambda: self._prefilled(batch, output))
        return output

    @hookimpl(wrapper=True)
    def decode(self, batch: DecodeBatch) -> Generator[None, DecodeOutput, DecodeOutput]:
        self._safely(self._read)
        try:
            output = yield
        except BaseException:
            self._forget(batch.active.nonzero().flatten().tolist())
            raise
        self._safely(lambda: self._decoded(batch, output))
        return output

    @hookimpl(wrapper=True)
    def release(self, slots: Sequence[int]) -> Generator[None, object, object]:
        self._safely(lambda: self._released(slots))
        return (yield)

    def _prefilled(self, batch: PrefillBatch, output: PrefillOutput) -> None:
        rows = zip(batch.slots.tolist(), batch.lengths.tolist(), batch.offsets.tolist(), strict=True)
        for index, (slot, length, offset) in enumerate(rows):
            if length == 0:
                continue
            before = self._held.pop(slot, None)
            held = Held([]) if offset == 0 else before and before.cut(offset)
            if held is not None:
                held.extend(batch.tokens[index, :length].tolist(), batch.images[index], self._model)
                self._held[slot] = held
            if self._chance.random() < self._rate:
                self._follow(slot, held, output.logits, index)

    def _follow(self, slot: int, held: Held | None, logits: torch.Tensor, row: int) -> None:
        if held is None:
            self._comparing.drop("unknown")
        elif len(self._followed) >= TOGETHER or self._comparing.is_busy:
            self._comparing.drop("busy")
        else:
            dtype = self._capacity.details.get(COMPUTE_DTYPE, str(logits.dtype).removeprefix("torch."))
            prompt = Held(list(held.tokens), held.pictures)
            self._followed[slot] = Followed(slot, prompt, dtype)
            self._note(self._followed[slot], logits, row)

    def _decoded(self, batch: DecodeBatch, output: DecodeOutput) -> None:
        tokens, positions = batch.tokens.tolist(), batch.positions.tolist()
        for slot in batch.active.nonzero().flatten().tolist():
            held = self._held.get(slot)
            if held is None or len(held.tokens) != positions[slot]:
                self._forget([slot])
                continue
            held.tokens.append(tokens[slot])
            row = self._followed.get(slot)
            if row is not None:
                row.reply.append(tokens[slot])
                self._note(row, output.logits, slot)
                if len(row.reply) == LONGEST:
                    self._end([slot])

    def _released(self, slots: Sequence[int]) -> None:
        """End rows; on an asynchronous device a step may be under way, whose logits are read before the next."""
        self._end(slots)
        if not self._capacity.asynchronous:
            self._read()
        if not self._capacity.resumes:
            for slot in slots:
                self._held.pop(slot, None)

    def _note(self, row: Followed, logits: torch.Tensor, index: int) -> None:
        """Keep logits from being overwritten; always of one row, which is one shape for a device that compiles."""
        self._unread.append((row, logits.index_select(0, torch.tensor([index]).to(logits.device))))

    def _read(self) -> None:
        """Bring the last step's logits to the host, and hand on the rows that have all of theirs."""
        unread, self._unread = self._unread, []
        for row, logits in unread:
            row.logits.append(logits[0].to("cpu"))
            if row.ended:
                self._comparing.put(row)

    def _end(self, slots: Sequence[int]) -> None:
        """Follow these rows no further; those with nothing left to read are handed on."""
        for slot in slots:
            row = self._followed.pop(slot, None)
            if row is not None:
                row.ended = True
                if all(row is not other for other, _ in self._unread):
                    self._comparing.put(row)

    def _forget(self, slots: Sequence[int]) -> None:
        """Nobody knows what these slots hold."""
        for slot in slots:
            self._held.pop(slot, None)
            if self._followed.pop(slot, None) is not None:
                self._comparing.drop("failed")

    def _safely(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except Exception:
            log.exception("the shadow failed and follows no more rows")
            self._failed = True
            self._held, self._followed, self._unread = {}, {}, []
