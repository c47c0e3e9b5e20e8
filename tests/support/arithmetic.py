"""A backend that computes with sums in place of a model, so that expected tokens can be worked out by hand.

The state of a row is the sum of its tokens plus the height and width of each of its pictures. The next token is

    400 + state % 300        (an ordinary word of the demo tokenizer)
    2, the end of sequence,  when state % 300 is 0

Its probability is 1/2, that of the next higher id 1/4, then 1/8 and so on, wrapping round at the vocabulary's end.

Example: the prompt [1, 500, 600] has the state 1101, so the first token is 400 + 201 = 601; then the state is 1702 and
the second token 400 + 202 = 602; then 2304 gives 604, 2908 gives 608.

It checks what core promises: slots and positions that fit together, one row per slot. A prompt that holds FAILS makes
`prefill` raise, FAILS_LATER makes the decode after its prefill raise, NOT_A_NUMBER gives logits that are none, LOST
loses the device. One that continues what slots hold is in `support.resuming`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from runtime import hookimpl
from runtime.backend import (
    Availability,
    BackendSpec,
    DecodeBatch,
    DecodeOutput,
    Images,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    Prefix,
)
from runtime.errors import DeviceLost

EOS = 2
FIRST, SPAN = 400, 300
FAILS, FAILS_LATER, NOT_A_NUMBER, LOST = 390, 391, 392, 799


def next_token(state: int) -> int:
    """The rule."""
    return FIRST + state % SPAN if state % SPAN else EOS


def expected(prompt: Sequence[int], count: int, pictures: Sequence[tuple[int, int]] = ()) -> list[int]:
    """The greedy reply to a prompt: `count` tokens, or up to the end of sequence."""
    state = sum(prompt) + sum(height + width for height, width in pictures)
    reply: list[int] = []
    while len(reply) < count and EOS not in reply:
        reply.append(next_token(state))
        state += reply[-1]
    return reply


@dataclass
class SumRow:
    state: int
    length: int
    tokens: tuple[int, ...]


class ArithmeticBackend:
    """The rule behind the hooks."""

    def __init__(self, vocabulary: int, limits: Limits) -> None:
        self.vocabulary = vocabulary
        self.limits = limits
        self.slots: dict[int, SumRow] = {}
        self.calls: list[tuple[str, int]] = []
        """(hook, rows) of every prefill and decode."""

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        self.calls.append(("prefill", batch.shape.rows))
        rows = [self._row(batch, index) for index in range(batch.shape.rows)]
        if any(FAILS in row.tokens for row in rows):
            raise RuntimeError("told to fail")
        if any(LOST in row.tokens for row in rows):
            raise DeviceLost("told to fail for good")
        logits = torch.stack([self._logits(row) for row in rows])
        told = self._prompt_logprobs(batch, rows) if batch.prompt_logprobs else None
        return PrefillOutput(logits, Prefix((rows, batch.slots.tolist())), told)

    @hookimpl
    def concatenate(self, prefix: Prefix[tuple[list[SumRow], list[int]]], placements: Sequence[Placement]) -> None:
        rows, slots = prefix.state
        for placement in placements:
            assert placement.slot == slots[placement.row], "a row must go to the slot its prefill named"
            self.slots[placement.slot] = rows[placement.row]

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        active = batch.active.nonzero().flatten().tolist()
        self.calls.append(("decode", len(active)))
        logits = torch.full((batch.shape.rows, self.vocabulary), math.nan)  # nobody may look at inactive rows
        for slot in active:
            row = self.slots[slot]
            if FAILS_LATER in row.tokens:
                raise RuntimeError("told to fail later")
            assert batch.positions[slot] == row.length, f"slot {slot} holds {row.length} tokens"
            row.state += int(batch.tokens[slot])
            row.length += 1
            logits[slot] = self._logits(row)
        return DecodeOutput(logits)

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self.slots.pop(slot, None)

    def _row(self, batch: PrefillBatch, index: int) -> SumRow:
        length = int(batch.lengths[index])
        tokens = tuple(batch.tokens[index, :length].tolist())
        assert int(batch.offsets[index]) == 0
        return SumRow(sum(tokens) + _picture_sum(batch.images[index]), length, tokens)

    def _prompt_logprobs(self, batch: PrefillBatch, rows: Sequence[SumRow]) -> torch.Tensor:
        told = torch.full(batch.tokens.shape, math.nan)
        for index, row in enumerate(rows):
            for place in range(1, row.length):
                before = SumRow(sum(row.tokens[:place]), place, row.tokens[:place])
                told[index, place] = self._logits(before).log_softmax(-1)[row.tokens[place]]
        return told

    def _logits(self, row: SumRow) -> torch.Tensor:
        if NOT_A_NUMBER in row.tokens:
            return torch.full((self.vocabulary,), math.nan)
        distance = (torch.arange(self.vocabulary) - next_token(row.state)) % self.vocabulary
        return -math.log(2) * distance.float()


def _picture_sum(images: Images | None) -> int:
    return 0 if images is None else sum(height + width for height, width in images.sizes)


def load(model: ModelSpec, limits: Limits) -> ArithmeticBackend:
    """Load no weights."""
    return ArithmeticBackend(model.vocabulary, limits)


SPEC = BackendSpec(
    name="arithmetic",
    summary="sums in place of a model, for tests",
    contract="~=1.0",
    probe=lambda: Availability(True, details={"device": "cpu"}),
    load=load,
)


@hookimpl
def runtime_backends() -> list[BackendSpec]:
    return [SPEC]
