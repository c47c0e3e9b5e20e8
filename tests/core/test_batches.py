"""Rows of a step as the batch a backend gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from runtime.backend import DecodeShape, Images, PrefillShape
from runtime.batches import AnyShapes, alike, decode_batch, prefill_batch
from runtime.budgets import Demand
from runtime.row import Row
from runtime.runtime import SamplingParameters, StoppingParameters
from runtime.sampling.stopping import StopRule
from support.serving import LIMITS, TOKENIZER

PICTURE = Images(torch.zeros(1, 3, 2, 2), (1,), ((4, 4),), (b"a" * 32,))


@dataclass(frozen=True)
class Rectangle:
    """Shapes of 4 rows and multiples of 8 tokens; two prompts are continued together."""

    resumed_rows: int = 2
    pads: bool = True

    def prefill_for(self, rows: int, longest: int, offset: int = 0) -> PrefillShape:
        return PrefillShape(4, -(-longest // 8) * 8, -(-offset // 8) * 8)

    def decode_for(self, rows: int, context: int) -> DecodeShape:
        return DecodeShape(-(-rows // 4) * 4, -(-context // 8) * 8)


def row(prompt: tuple[int, ...], slot: int, held: int = 0, longest: int | None = None, **more: Any) -> Row:
    """A row whose slot holds the beginning of its prompt, and of which so many tokens may be computed at once."""
    made = Row(
        key=slot,
        prompt=prompt,
        images=more.pop("images", None),
        demand=Demand(len(prompt), LIMITS.context),
        sampling=SamplingParameters(),
        seed=0,
        stop_rule=StopRule.of(StoppingParameters(max_new_tokens=5), 9, frozenset()),
        vocabulary=TOKENIZER,
        slot=slot,
        **more,
    )
    made.begin(held, longest)
    return made


def test_prompts_of_any_shape() -> None:
    """As long as the longest of them, and no row more than there are."""
    batch = prefill_batch([row((1, 5, 6), 2), row((1, 7), 0)], AnyShapes(LIMITS))
    assert batch.shape == PrefillShape(2, 3)
    assert batch.tokens.tolist() == [[1, 5, 6], [1, 7, 0]]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.offsets.tolist() == [0, 0]
    assert batch.slots.tolist() == [2, 0]
    assert batch.images == (None, None)
    assert not batch.prompt_logprobs


def test_prompts_of_a_planned_shape() -> None:
    """Padded on the right, and with rows that have no tokens and no slot."""
    batch = prefill_batch([row((1, 5, 6), 2)], Rectangle())
    assert batch.shape == PrefillShape(4, 8)
    assert batch.tokens.tolist() == [[1, 5, 6, 0, 0, 0, 0, 0], *[[0] * 8] * 3]
    assert batch.lengths.tolist() == [3, 0, 0, 0]
    assert batch.offsets.tolist() == [0, 0, 0, 0]
    assert batch.slots.tolist() == [2, -1, -1, -1]
    assert batch.images == (None,) * 4


def test_rest_of_a_prompt() -> None:
    """Behind what the slot holds: the tokens from there, the offset, and a shape that has room for both."""
    rows = [row(tuple(range(20)), 1, held=13), row(tuple(range(30, 40)), 3, held=8, longest=1)]
    batch = prefill_batch(rows, Rectangle())
    assert batch.shape == PrefillShape(4, 8, 16)
    assert batch.tokens[:2].tolist() == [[13, 14, 15, 16, 17, 18, 19, 0], [38, 0, 0, 0, 0, 0, 0, 0]]
    assert batch.lengths.tolist() == [7, 1, 0, 0]
    assert batch.offsets.tolist() == [13, 8, 0, 0]


def test_pictures_go_with_their_part() -> None:
    """A row whose picture was computed before brings none."""
    prompt, places = (1, 99, 99, 7, 8), (slice(1, 3),)
    whole = row(prompt, 0, images=PICTURE, pictures=places)
    rest = row(prompt, 1, held=3, images=PICTURE, pictures=places)
    assert prefill_batch([whole, rest], AnyShapes(LIMITS)).images == (PICTURE, None)


def test_log_probabilities_are_asked_for_all_or_none() -> None:
    """One row that wants them is enough."""
    rows = [row((1, 5), 0), row((1, 6), 1, prompt_logprobs=True)]
    assert prefill_batch(rows, AnyShapes(LIMITS)).prompt_logprobs


def test_decode_step() -> None:
    """Row i is slot i: the newest token, the place it goes to, and who is active; up to a planned shape."""
    rows = [row((1, 5, 6), 2), row((1, 7), 0)]
    for each, generated in zip(rows, ([40, 41], [50]), strict=True):
        each.generated = generated
    batch = decode_batch(rows, Rectangle())
    assert batch.shape == DecodeShape(4, 8)
    assert batch.tokens.tolist() == [50, 0, 41, 0]
    assert batch.positions.tolist() == [2, 0, 4, 0]
    assert batch.active.tolist() == [True, False, True, False]
    assert decode_batch(rows, AnyShapes(LIMITS)).shape == DecodeShape(LIMITS.rows, LIMITS.context)


def test_rows_that_are_computed_together() -> None:
    """Those that begin; those that go on, as many at a time as there are shapes for."""
    begin = [row((1, 5, 6), slot) for slot in (0, 3)]
    rest = [row((1, 5, 6), slot, held=2) for slot in (1, 2, 4)]
    mixed = [begin[0], *rest[:2], begin[1], rest[2]]
    assert list(alike(mixed, Rectangle())) == [begin, rest[:2], rest[2:]]
    assert list(alike(mixed, AnyShapes(LIMITS))) == [begin, rest[:2], rest[2:]]
    assert list(alike(rest, Rectangle(resumed_rows=9))) == [rest]
    assert list(alike(begin, Rectangle())) == [begin]
