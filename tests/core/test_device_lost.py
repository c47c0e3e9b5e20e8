"""A device that cannot be relied on any more: nothing is computed on it again, and everybody hears of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import torch
from runtime.backend import DecodeBatch, DecodeShape, PrefillBatch, PrefillShape
from runtime.errors import DeviceLost, NotReady
from runtime.plugins import Hooks
from runtime.runtime import Readiness, StepRequest
from support.arithmetic import LOST, ArithmeticBackend
from support.gated import GatedBackend, submissions
from support.serving import LIMITS, MODEL, arithmetic_runtime, reply, tokens_request

pytestmark = pytest.mark.anyio

ROW = torch.tensor([0])
LOSES = PrefillBatch(PrefillShape(1, 2), torch.tensor([[1, LOST]]), torch.tensor([2]), ROW, ROW, (None,))
STEP = DecodeBatch(DecodeShape(1, 64), torch.tensor([601]), torch.tensor([2]), torch.tensor([True]))


def test_a_lost_device_is_not_asked_again() -> None:
    """Every hook raises what the first one did; that slots are free again nobody needs to know."""
    backend = ArithmeticBackend(MODEL.vocabulary, LIMITS)
    hooks = Hooks("arithmetic", backend, MODEL, LIMITS)
    with pytest.raises(DeviceLost, match="for good"):
        hooks.prefill(LOSES)
    calls = list(backend.calls)
    for call in (lambda: hooks.prefill(replace(LOSES, tokens=torch.tensor([[1, 5]]))), lambda: hooks.decode(STEP)):
        with pytest.raises(DeviceLost, match="for good"):
            call()
    hooks.release([0])
    assert backend.calls == calls


async def test_every_request_hears_of_it() -> None:
    """The one that was computed, one that runs beside it, and those that come later; then the device thread ends."""
    backend = GatedBackend()
    async with arithmetic_runtime(backend) as runtime:
        submitted = submissions(runtime)
        running = asyncio.ensure_future(reply(runtime, tokens_request([1, 500])))
        await submitted.acquire()
        await backend.started()
        losing = asyncio.ensure_future(reply(runtime, tokens_request([1, LOST])))
        await submitted.acquire()
        backend.gate.release(50)
        for request in (running, losing):
            with pytest.raises(DeviceLost):
                await request
        await asyncio.wrap_future(runtime.engine.ended)
        assert (await runtime.health()).readiness is Readiness.FAILED
        with pytest.raises(NotReady):
            await reply(runtime, tokens_request([1, 500]))


async def test_a_step_operation_ends_it_too() -> None:
    """Its caller gets the error, and the device thread ends."""
    async with arithmetic_runtime() as runtime:
        with pytest.raises(DeviceLost):
            await runtime.prefill([StepRequest(0, tokens_request([1, LOST]))])
        await asyncio.wrap_future(runtime.engine.ended)
        assert (await runtime.health()).readiness is Readiness.FAILED
