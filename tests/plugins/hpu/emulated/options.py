"""On the virtual device in lazy mode: what each option of the backend does."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import habana_frameworks.torch.hpex.kernels as vendor
import pytest
import torch
from runtime.backend import DecodeShape, Limits, ModelSpec, PrefillShape, ShapePlan, VisionShape
from runtime.errors import BackendRefused
from runtime.model import read_model
from runtime.shapes import Ladders
from runtime.static.backend import StaticBackend
from runtime.static.kv import CacheGeometry
from runtime.static.warmup import empty_decode, empty_prefill
from support.agreement import NOISE
from support.checkpoints import Checkpoint, write_checkpoint
from support.hpu import FLASH, LIMITS, agreement, loaded, plan_of
from support.static import ignore
from virtual_device import counters, faults

PLAN = ShapePlan(
    prefill=(PrefillShape(1, 128), PrefillShape(2, 128)),
    decode=(DecodeShape(2, 384), DecodeShape(4, 384)),
    vision=(VisionShape(3), VisionShape(4), VisionShape(5)),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A vision model of two layers."""
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), Checkpoint()))


def warmed(model: ModelSpec, plan: ShapePlan = PLAN, **options: Any) -> tuple[StaticBackend, int, int]:
    """The backend, and the captures and compilations of its warm-up."""
    backend = loaded(model, **options)
    before = counters.snapshot()
    backend.warmup(plan, ignore)
    spent = counters.snapshot() - before
    return backend, spent.captures.total(), spent.compilations


@pytest.mark.parametrize(
    ("options", "captures", "hidden"),
    [
        ({}, 2 + 2 + 2 * 3, 48),
        ({"limit_hpu_graph": True}, 2 + 2 * 3, 80),
        ({"enable_hpu_graph": False}, 0, 96),
    ],
    ids=["all", "LIMIT_HPU_GRAPH", "without ENABLE_HPU_GRAPH"],
)
def test_graphs(options: dict[str, bool], captures: int, hidden: int, tmp_path: Path) -> None:
    """Of every shape; of all but prefills; of none. Whatever is left out is compiled in the warm-up, and only there."""
    model = read_model(write_checkpoint(tmp_path, Checkpoint(hidden=hidden)))  # nothing was compiled for this width
    plan = plan_of(model)
    assert warmed(model, **options)[1] == captures
    backend, _, compilations = warmed(model, plan, **options)
    assert compilations > 0
    before = counters.snapshot()
    agreement(backend, model, 0, plan).run(steps=30)
    spent = counters.snapshot() - before
    assert (spent.captures.total(), spent.compilations) == (0, 0)
    assert (spent.replays.total() == 0) == ("enable_hpu_graph" in options)


class Spy:
    """The vendor's kernel, with what it was given."""

    def __init__(self) -> None:
        self.real = vendor.FusedSDPA
        self.forward = self.real.forward
        self.calls: list[tuple[Any, ...]] = []

    def apply(self, *arguments: Any) -> torch.Tensor:
        self.calls.append(arguments)
        answer: torch.Tensor = self.real.apply(*arguments)
        return answer


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("flash", [False, True])
def test_attention(flash: bool, recompute: bool, small: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """USE_FLASH_ATTENTION: the fused kernel or none. FLASH_ATTENTION_RECOMPUTE: for prompts, never for decode steps."""
    spy = Spy()
    monkeypatch.setattr(vendor, "FusedSDPA", spy)
    backend = loaded(small, use_flash_attention=flash, flash_attention_recompute=recompute)

    def told(step: Any) -> set[bool]:
        spy.calls.clear()
        step()
        return {arguments[8] for arguments in spy.calls}

    assert told(lambda: backend.prefill(empty_prefill(PrefillShape(1, 64)))) == ({recompute} if flash else set())
    assert told(lambda: backend.prefill(empty_prefill(PrefillShape(1, 64, 64)))) == ({recompute} if flash else set())
    assert told(lambda: backend.decode(empty_decode(DecodeShape(2, 384)))) == ({False} if flash else set())
    assert ("FusedSDPA" in backend.capacity().details["kernels"]) == flash


def test_dtype(small: ModelSpec) -> None:
    """bfloat16, which is what the cache holds too, unless fp32 is asked for."""
    half, whole = loaded(small, dtype=None), loaded(small, dtype="float32")
    assert half.decode(empty_decode(DecodeShape(2, 384))).logits.dtype is torch.bfloat16
    assert whole.decode(empty_decode(DecodeShape(2, 384))).logits.dtype is torch.float32
    assert half.capacity().details["compute_dtype"] == "bfloat16"


@pytest.mark.parametrize(("percent", "rows"), [(0, 9), (50, 4), (None, 6)])
def test_memory_kept_for_graphs(
    percent: int | None, rows: int, small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest holds tokens: room for nine rows and a half; in lazy mode the default keeps three tenths."""
    limits = Limits(rows=64, context=384, prefill_rows=1, prefill_tokens=64)
    row = CacheGeometry.of(small, 384, torch.float32).row_bytes
    monkeypatch.setattr("runtime_hpu.device.MARGIN", 2**40)
    monkeypatch.setattr(torch.hpu, "mem_get_info", lambda: (9 * row + row // 2, 2**30))
    assert loaded(small, limits, graph_reserve_percent=percent).capacity().rows == rows


def test_image_cache(small: ModelSpec) -> None:
    """IMAGE_CACHE_BYTES bounds the features that are kept on the device."""
    backend = loaded(small, image_cache_bytes=0)
    plan = plan_of(small)
    agreement(backend, small, 0, plan).run(steps=30)
    stats = backend.stats()
    assert (stats["image_cache_bytes"], stats["image_cache_hits"]) == (0, 0)
    assert stats["image_cache_misses"] > 0


def test_what_it_tells(small: ModelSpec) -> None:
    """Mode, kernels, and how far the device was from the host."""
    details = loaded(small, **FLASH).capacity().details
    assert details["mode"] == "lazy"
    assert details["kernels"] == "FusedSDPA, FusedRMSNorm, apply_rotary_pos_emb"
    assert details["self_test"].startswith("this model: prefill 0.0")
    assert details["self_test"].endswith("the same tokens")


def test_counts(small: ModelSpec) -> None:
    """The bridge's own, for /metrics."""
    before = counters.snapshot()
    backend = loaded(small, **FLASH)
    backend.warmup(PLAN, ignore)
    stats = backend.stats()
    assert stats["device_compilations"] >= (counters.snapshot() - before).compilations > 0
    assert stats["cpu_fallbacks"] == 0
    assert stats["plain_functions"] == 0


def test_out_of_memory_in_the_warmup_steps_back(small: ModelSpec) -> None:
    """With fewer rows, in which all is right."""
    plan = plan_of(small, ladders=Ladders.linear(360, 2, 2))
    backend = loaded(small)
    faults.strike("memory", after=200)
    backend.warmup(plan, ignore)
    limits = replace(LIMITS, rows=2)
    assert backend.capacity().rows == limits.rows
    traffic = agreement(backend, small, 0, plan, limits)
    traffic.run(steps=30)
    assert max(traffic.differences) < NOISE
    assert backend.stats()["unknown_shapes"] == 0


def test_the_mode_of_the_bridge_cannot_be_changed(small: ModelSpec) -> None:
    """It is imported already."""
    with pytest.raises(BackendRefused, match="imported too early, in lazy mode, and compile is wanted"):
        loaded(small, hpu_mode="compile")
    assert os.environ["PT_HPU_LAZY_MODE"] == "1"
