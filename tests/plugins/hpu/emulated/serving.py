"""On the virtual device: a step costs one read, and after the warm-up nothing is new; until the device is lost."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from runtime import hookimpl
from runtime.backend import Limits, ModelSpec
from runtime.errors import DeviceLost
from runtime.model import read_model
from runtime.plugins import Hooks
from runtime.static.warmup import empty_decode
from support.checkpoints import Checkpoint, write_checkpoint
from support.hpu import FLASH, MODES, QUIET, loaded, plan_of
from support.mixed import ask_all, serving, some_prompts
from support.static import ignore
from virtual_device import counters, faults

pytestmark = QUIET

REQUESTS = int(os.environ.get("HPU_REQUESTS", "100"))
LIMITS = Limits(rows=4, context=256, prefill_rows=2, prefill_tokens=240)
SMALLEST = Checkpoint(layers=1, hidden=32, heads=2, kv_heads=1, vision_hidden=16, vision_layers=2, dtype="float32")


class Watch:
    """Looks at the counters around every step."""

    def __init__(self) -> None:
        self.steps = 0

    @hookimpl(wrapper=True)
    def prefill(self) -> Generator[None, Any, Any]:
        return (yield from self._step())

    @hookimpl(wrapper=True)
    def decode(self) -> Generator[None, Any, Any]:
        return (yield from self._step())

    def _step(self) -> Generator[None, Any, Any]:
        self.steps += 1
        before = counters.snapshot()
        answer = yield
        assert (counters.snapshot() - before).host_reads == 1
        return answer


def hooks(model: ModelSpec, mode: str, watch: Watch) -> Hooks:
    """The backend under the watch."""
    return Hooks("hpu", loaded(model, LIMITS, hpu_mode=mode, **FLASH), model, LIMITS, [watch])


@pytest.mark.anyio
@pytest.mark.parametrize("mode", MODES)
async def test_mixed_requests_meet_nothing_new(mode: str, tmp_path: Path) -> None:
    """Texts, one and two pictures of any size, sampled in any way, eight at a time."""
    model = read_model(write_checkpoint(tmp_path, SMALLEST))
    watch, prompts = Watch(), some_prompts(model, LIMITS, REQUESTS)
    load, plan = (lambda: hooks(model, mode, watch)), plan_of(model, LIMITS)
    async with serving(load, model, LIMITS, plan, prompts) as runtime:
        before, watch.steps = counters.snapshot(), 0
        await ask_all(runtime, REQUESTS)
        spent = counters.snapshot() - before
        stats = runtime.engine.prepared.hooks.stats()
    assert spent.captures.total() == spent.compilations == spent.cpu_fallbacks.total() == spent.bypasses.total() == 0
    assert spent.host_reads == watch.steps > REQUESTS
    assert len({site for kind, site in spent.d2h_syncs}) == 1
    assert spent.stale_reads.total() == 0
    assert (spent.replays.total() > watch.steps) == (mode == "lazy")
    assert stats["unknown_shapes"] == 0


def test_a_fatal_error_loses_the_device(tmp_path: Path) -> None:
    """Whatever is asked of it then, and whoever asks: the last test of this process."""
    model = read_model(write_checkpoint(tmp_path, SMALLEST))
    plan = plan_of(model, LIMITS)
    backend = loaded(model, LIMITS, hpu_mode=MODES[-1])
    backend.warmup(plan, ignore)
    faults.strike("fatal")
    for _ in range(2):
        with pytest.raises(DeviceLost, match="the device failed, and the worker is started anew"):
            backend.decode(empty_decode(plan.decode[0]))
