"""Every hook of a backend, and when core calls it while requests are served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.backend import (
    Capacity,
    DecodeBatch,
    DecodeOutput,
    Placement,
    PrefillBatch,
    PrefillOutput,
    PrefillShape,
    Prefix,
)
from runtime.hookspecs import hookimpl
from runtime.plugins import Hooks, backend_named
from support.arithmetic import ArithmeticBackend, expected
from support.planned import PlannedBackend, planned_runtime
from support.scrape import read_scrape
from support.serving import LIMITS, MODEL, arithmetic_runtime, ids, reply, tokens_request

PROMPT = [1, 500, 600]


class Diary(ArithmeticBackend):
    """Sums, and a note of every call in the order they come."""

    def __init__(self) -> None:
        super().__init__(MODEL.vocabulary, LIMITS)
        self.notes: list[Any] = []

    @hookimpl
    def capacity(self) -> Capacity:
        self.notes.append("capacity")
        return Capacity(rows=2, context=32)

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        self.notes.append(("prefill", batch.tokens.tolist(), batch.slots.tolist()))
        return super().prefill(batch)

    @hookimpl
    def concatenate(self, prefix: Prefix[Any], placements: Sequence[Placement]) -> None:
        self.notes.append(("concatenate", [*placements]))
        super().concatenate(prefix, placements)

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        slots = batch.active.nonzero().flatten().tolist()
        self.notes.append(("decode", batch.tokens[slots].tolist(), batch.positions[slots].tolist()))
        return super().decode(batch)

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        self.notes.append(("release", [*slots]))
        super().release(slots)

    @hookimpl
    def stats(self) -> dict[str, float]:
        return {"notes": len(self.notes)}

    @hookimpl
    def stages(self, batch: PrefillBatch) -> dict[str, torch.Tensor]:
        return {"embeddings": batch.tokens.float()}


@pytest.mark.proves("hook capacity", "hook prefill", "hook concatenate", "hook decode", "hook release")
async def test_one_request_from_its_first_hook_to_its_last() -> None:
    """Its row keeps one slot; each decode step gets the token before it and the tokens that the slot holds."""
    diary = Diary()
    async with arithmetic_runtime(diary) as runtime:
        assert ids(await reply(runtime, tokens_request(PROMPT, 3))) == expected(PROMPT, 3)
        assert (await runtime.info()).max_batch_size == 2  # not the 4 of the limits
    first, second, _ = expected(PROMPT, 3)
    _, (slot,) = diary.notes[-1]
    assert [note for note in diary.notes if note != "capacity"] == [
        ("prefill", [PROMPT], [slot]),
        ("concatenate", [Placement(0, slot)]),
        ("decode", [first], [3]),
        ("decode", [second], [4]),
        ("release", [slot]),
    ]
    assert diary.notes[0] == "capacity"


@pytest.mark.proves("hook stats")
async def test_stats_are_on_the_metrics() -> None:
    """By the names that the backend gives them."""
    async with arithmetic_runtime(Diary()) as runtime:
        await reply(runtime, tokens_request(PROMPT, 3))
        assert read_scrape(await runtime.metrics())["runtime_backend_stat"].values["notes"] >= 2


@pytest.mark.proves("hook warmup")
async def test_warm_up_comes_before_the_first_request() -> None:
    """With every shape of the plan; a backend of any shape, whose plan is empty, is not asked."""
    backend = PlannedBackend()
    async with planned_runtime(backend) as runtime:
        await asyncio.wrap_future(runtime.engine.loaded)
        assert {*backend.warmed} == {*backend.plan.prefill, *backend.plan.decode}
        assert backend.met == []
        await reply(runtime, tokens_request(PROMPT, 3))
    assert {*backend.met} <= {*backend.warmed}


@pytest.mark.proves("hook stages")
def test_stages_are_handed_on() -> None:
    """To whoever compares two backends; nothing in service asks for them."""
    one = torch.tensor([0])
    batch = PrefillBatch(PrefillShape(1, 3), torch.tensor([PROMPT]), torch.tensor([3]), one, one, (None,))
    told: Mapping[str, torch.Tensor] = Hooks("diary", Diary(), MODEL, LIMITS).stages(batch)
    assert told["embeddings"].tolist() == [PROMPT]


@pytest.mark.proves("hook runtime_backends")
def test_a_plugin_lists_its_backends(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each can be asked for by its name."""
    monkeypatch.syspath_prepend(arithmetic_plugin)
    assert backend_named("arithmetic").summary == "sums in place of a model, for tests"
