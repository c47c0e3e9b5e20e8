"""On the virtual device: the plugin broken on purpose, in one way after another; each must be noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from runtime.backend import ModelSpec
from runtime.errors import RuntimeServiceError
from runtime.model import read_model
from runtime.static import backend as backend_module
from runtime.static.backend import StaticBackend
from runtime.static.kv import KvCache
from runtime.static.rotary import RotaryTable
from runtime_hpu.device import HpuDevice
from runtime_hpu.kernels import HpuKernels
from support.agreement import NOISE
from support.checkpoints import Checkpoint, write_checkpoint
from support.hpu import FLASH, MODES, QUIET, agreement, loaded, plan_of
from support.static import ignore
from virtual_device import counters

pytestmark = QUIET


def left_over_read(patch: pytest.MonkeyPatch) -> None:
    """A decode step looks at a token."""
    right = StaticBackend._compute_decode

    def wrong(self: StaticBackend, shape: Any, indices: torch.Tensor) -> Any:
        assert indices[0, 0].item() < 10**6
        return right(self, shape, indices)

    patch.setattr(StaticBackend, "_compute_decode", wrong)


def other_dtype(patch: pytest.MonkeyPatch) -> None:
    """Some decode steps bring their indices in 32 bits."""
    right = backend_module.decode_indices
    calls: list[None] = []

    def wrong(batch: Any, cache: KvCache) -> torch.Tensor:
        calls.append(None)
        indices = right(batch, cache)
        return indices.int() if len(calls) % 7 == 0 else indices

    patch.setattr(backend_module, "decode_indices", wrong)


def write_through_a_view(patch: pytest.MonkeyPatch) -> None:
    """Keys are written to a view of the cache."""

    def wrong(self: KvCache, layer: int, places: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        for buffer, new in ((self._keys[layer], key), (self._values[layer], value)):
            buffer.view(len(buffer), -1).index_copy_(0, places, new.reshape(len(new), -1))

    patch.setattr(KvCache, "write", wrong)


def kept_intermediate(patch: pytest.MonkeyPatch) -> None:
    """The angles of a step are kept for the next of as many tokens."""
    right = RotaryTable.at
    kept: dict[Any, Any] = {}

    def wrong(self: RotaryTable, positions: torch.Tensor) -> Any:
        return kept.setdefault((positions.device, len(positions)), right(self, positions))

    patch.setattr(RotaryTable, "at", wrong)


def wrong_scale(patch: pytest.MonkeyPatch) -> None:
    """Scores of attention are not scaled."""

    def wrong(self: HpuKernels, query: torch.Tensor, *rest: Any) -> torch.Tensor:
        key, value, mask, causal, recompute = rest
        seen: torch.Tensor = self._sdpa.apply(query, key, value, mask, 0.0, causal, 1.0, "None", recompute)
        return seen

    patch.setattr(HpuKernels, "_fused", wrong)


def two_reads(patch: pytest.MonkeyPatch) -> None:
    """The scores are brought over twice."""
    right = HpuDevice.delivered

    def wrong(self: HpuDevice, logits: torch.Tensor) -> torch.Tensor:
        right(self, logits)
        return right(self, logits)

    patch.setattr(HpuDevice, "delivered", wrong)


WRONG = "another token after|no number after|assert .* < 0.001"
"""What comes out is not the oracle's."""
TWICE = "assert 2 == 1"
"""Reads in one step."""
DTYPE = "was prepared for .*int64.* and is given .*int32"
MISTAKES: dict[str, dict[Callable[[pytest.MonkeyPatch], None], str]] = {
    "lazy": {
        left_over_read: "tried: item: device-to-host read is not supported during hpu graph capturing",
        other_dtype: DTYPE,
        write_through_a_view: "in-place update through a view is not supported during hpu graph capturing",
        kept_intermediate: WRONG,
        wrong_scale: WRONG,
        two_reads: TWICE,
    },
    "compile": {left_over_read: "item", wrong_scale: WRONG},
    "eager": {left_over_read: TWICE, other_dtype: DTYPE, wrong_scale: WRONG, two_reads: TWICE},
}
"""By mode, with what tells of it."""


def checked(model: ModelSpec, mode: str) -> None:
    """What the other tests look at."""
    plan = plan_of(model)
    backend = loaded(model, hpu_mode=mode, **FLASH)
    backend.warmup(plan, ignore)
    decode = backend.decode

    def one_read(batch: Any) -> Any:
        before = counters.snapshot()
        answer = decode(batch)
        assert (counters.snapshot() - before).host_reads == 1
        return answer

    backend.decode = one_read  # type: ignore[method-assign]
    before = counters.snapshot()
    for seed in range(2):
        traffic = agreement(backend, model, seed, plan)
        traffic.run(steps=40)
        assert max(traffic.differences) < NOISE
    spent = counters.snapshot() - before
    assert (spent.captures.total(), spent.compilations) == (0, 0)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A model of two layers; with a vision tower where nothing has to be compiled."""
    checkpoint = Checkpoint() if MODES[0] == "lazy" else Checkpoint("MistralForCausalLM")
    return read_model(write_checkpoint(tmp_path_factory.mktemp("model"), checkpoint))


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_wrong_to_begin_with(mode: str, small: ModelSpec) -> None:
    """Else the rest would prove nothing."""
    checked(small, mode)


@pytest.mark.parametrize(
    ("mode", "mistake"),
    [pytest.param(mode, mistake, id=f"{mode}-{mistake.__name__}") for mode in MODES for mistake in MISTAKES[mode]],
)
def test_a_mistake_is_noticed(
    mode: str, mistake: Callable[[pytest.MonkeyPatch], None], small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the device, by the toolkit, or by what comes out."""
    mistake(monkeypatch)
    with pytest.raises((AssertionError, RuntimeError, RuntimeServiceError), match=MISTAKES[mode][mistake]):
        checked(small, mode)
