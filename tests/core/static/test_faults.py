"""The static backend broken on purpose, in one way after another: its agreement with the oracle must end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from runtime.backend import ModelSpec, VisionShape
from runtime.static import backend as backend_module
from runtime.static.backend import StaticBackend
from runtime.static.graphs import Call, Graphs
from runtime.static.kernels import TorchStaticKernels
from runtime.static.kv import CacheGeometry, KvCache
from runtime.static.picture_buffer import PictureBuffer
from runtime.static.rectangle import mask_after
from support.agreement import NOISE
from support.static import Spoiled, agreement, ignore, loaded, plan_of


def see_everything(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(*positions.shape, window, dtype=dtype).unsqueeze(1)


def left_over(patch: pytest.MonkeyPatch) -> None:
    """Decode sees what an earlier row left in the slot."""
    patch.setattr(backend_module, "mask_after", see_everything)


def one_more(patch: pytest.MonkeyPatch) -> None:
    """Decode sees one place behind its own."""
    patch.setattr(backend_module, "mask_after", lambda positions, *rest: mask_after(positions + 1, *rest))


def padding(patch: pytest.MonkeyPatch) -> None:
    """Prompts see what comes after them, padding included."""

    def attend(self: object, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def last_column(patch: pytest.MonkeyPatch) -> None:
    """The scores are those after the padding."""
    right = backend_module.prefill_indices

    def wrong(batch: Any, cache: KvCache) -> list[torch.Tensor]:
        indices = right(batch, cache)
        rows, length = batch.tokens.shape
        return [indices[0], torch.arange(rows) * length + length - 1, *indices[2:]]

    patch.setattr(backend_module, "prefill_indices", wrong)


def scratch_read(patch: pytest.MonkeyPatch) -> None:
    """Resumed prompts read the scratch in place of their first token."""
    right = backend_module.prefill_indices

    def wrong(batch: Any, cache: KvCache) -> list[torch.Tensor]:
        *indices, window = right(batch, cache)
        if batch.shape.cached:
            window = window.clone()
            window[0] = cache.scratch
        return [*indices, window]

    patch.setattr(backend_module, "prefill_indices", wrong)


def no_scratch(patch: pytest.MonkeyPatch) -> None:
    """Padding and idle rows write where slot 0 begins."""

    class Careless(KvCache):
        def __init__(self, geometry: CacheGeometry, slots: int, device: torch.device) -> None:
            super().__init__(geometry, slots, device)
            self.scratch = 0

    patch.setattr(backend_module, "KvCache", Careless)
    patch.setattr(Spoiled, "spoil", lambda self: None)


def stale_picture(patch: pytest.MonkeyPatch) -> None:
    """The first picture ever stays in the buffer."""
    right = PictureBuffer.fill
    filled: list[object] = []

    def wrong(self: PictureBuffer, batch: Any) -> None:
        if not filled:
            right(self, batch)
        filled.extend(images for images in batch.images if images is not None)

    patch.setattr(PictureBuffer, "fill", wrong)


def frozen_number(patch: pytest.MonkeyPatch) -> None:
    """Decode takes its positions from Python."""

    def wrong(self: StaticBackend, batch: Any) -> Any:
        call = right(self, batch)
        positions = batch.positions.clone()

        def function(indices: torch.Tensor) -> Any:
            return call.function(torch.stack([indices[0], positions, indices[2]]))

        return Call(call.key, function, call.inputs)

    right = StaticBackend._decode
    patch.setattr(StaticBackend, "_decode", wrong)


class Kept(torch.Tensor):
    """A tensor that nobody can copy."""

    def clone(self, **options: object) -> Any:
        return self


def kept_output(patch: pytest.MonkeyPatch) -> None:
    """The cache of pictures keeps what the next picture overwrites."""
    right = Graphs.run

    def wrong(self: Graphs, call: Call) -> Any:
        outputs = right(self, call)
        return tuple(x.as_subclass(Kept) for x in outputs) if isinstance(call.key, VisionShape) else outputs

    patch.setattr(Graphs, "run", wrong)


FAULTS = (
    left_over,
    one_more,
    padding,
    last_column,
    scratch_read,
    no_scratch,
    stale_picture,
    frozen_number,
    kept_output,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_agreement_notices(
    fault: Callable[[pytest.MonkeyPatch], None], small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these is a way to be wrong that the tests above must show."""
    fault(monkeypatch)
    plan = plan_of(small)
    backend = loaded(small)
    backend.warmup(plan, ignore)

    def compare() -> None:
        for seed in range(3):
            traffic = agreement(backend, small, seed, plan)
            traffic.run(steps=50)
            assert max(traffic.differences) < NOISE

    with pytest.raises(AssertionError):
        compare()
