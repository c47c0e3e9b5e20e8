"""Backends broken on purpose, one mistake each, as authors of backends make them, and the stage where each begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from runtime.backend import DecodeShape, Limits, ModelSpec, PrefillBatch, PrefillShape, VisionShape
from runtime.static import backend as backend_module
from runtime.static import decoder as decoder_module
from runtime.static import picture_buffer as buffer_module
from runtime.static import vision as vision_module
from runtime.static.decoder import Decoder, Layer
from runtime.static.device import Host
from runtime.static.graphs import Inputs, Outputs, PlainRunner
from runtime.static.image_cache import PictureKey
from runtime.static.kernels import TorchStaticKernels
from runtime.static.kv import KvCache
from runtime.static.model import LlavaNext
from runtime.static.picture_buffer import PictureBuffer
from runtime.static.pictures import feature_index
from runtime.static.rectangle import RectangleAttention, mask_after
from runtime.static.rotary import RotaryTable
from runtime.static.vision import VisionTower
from support.checkpoints import Checkpoint
from support.verifying import static

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Fault:
    """A mistake, and where it must be found."""

    make: Callable[[Patch], None]
    stage: str
    dtype: torch.dtype = torch.float32
    often: bool = True
    """Whether every run of the tests tries it; the others are much like one that is."""

    @property
    def what(self) -> str:
        return str(self.make.__doc__).strip().rstrip(".")


def load(model: ModelSpec, limits: Limits, dtype: torch.dtype) -> Any:
    """The backend that is broken: the toolkit's, on plain torch."""
    return static(model, limits, dtype, RUNNER["in use"](Host()))


MODEL = Checkpoint(layers=3, vision_layers=4, seed=7)
"""The one that faults are looked for in."""
RUNNER: dict[str, type[PlainRunner]] = {"in use": PlainRunner}
"""For a fault to replace."""


def rope_base(patch: Patch) -> None:
    """Rotary angles of another base (9000 for 10000)."""

    def table(theta: float, *rest: Any) -> RotaryTable:
        return RotaryTable(0.9 * theta, *rest)

    patch.setattr(decoder_module, "RotaryTable", table)


def rope_interleaved(patch: Patch) -> None:
    """Rotary embedding of neighbouring numbers in the place of halves."""

    def rotate(self: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        cos, sin = (each[..., half:].repeat_interleave(2, -1) for each in (cos, sin))
        return x * cos + turned * sin

    patch.setattr(TorchStaticKernels, "rotate", rotate)


def swapped_heads(patch: Patch) -> None:
    """Two query heads swapped, in the second layer only."""
    right = RectangleAttention.__call__

    def wrong(self: Any, layer: int, query: torch.Tensor, *rest: Any) -> torch.Tensor:
        order = [1, 0, *range(2, query.shape[1])]
        return right(self, layer, query[:, order] if layer == 1 else query, *rest)

    patch.setattr(RectangleAttention, "__call__", wrong)


def grouped_wrongly(patch: Patch) -> None:
    """Query heads share keys in turns, not in neighbouring groups."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        times = query.shape[1] // key.shape[1]
        key, value = (each.repeat(1, times, 1, 1) for each in (key, value))
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def softmax_scale(patch: Patch) -> None:
    """Scores of a prompt scaled by 1 / d in the place of 1 / sqrt(d)."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scale = 1 / query.shape[-1]
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True, scale=scale)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def not_causal(patch: Patch) -> None:
    """Prompts see what comes after, padding included."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, enable_gqa=True)

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def narrow_accumulation(patch: Patch) -> None:
    """Attention of an fp32 backend summed in bf16."""
    right = TorchStaticKernels.attend_causal

    def attend(self: Any, *tensors: torch.Tensor) -> torch.Tensor:
        return right(self, *(each.bfloat16() for each in tensors)).float()

    patch.setattr(TorchStaticKernels, "attend_causal", attend)


def narrow_weights(patch: Patch) -> None:
    """Products of an fp32 backend computed in bf16."""

    def linear(self: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
        def apply(x: torch.Tensor) -> torch.Tensor:
            narrow = None if bias is None else bias.bfloat16()
            return F.linear(x.bfloat16(), weight.bfloat16(), narrow).float()

        return apply

    patch.setattr(TorchStaticKernels, "linear", linear)


def norm_epsilon(patch: Patch) -> None:
    """Norms of the decoder with an epsilon of 1e-6 in the place of 1e-5."""
    right = TorchStaticKernels.rms_norm

    def norm(self: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        return right(self, x, weight, 0.1 * epsilon)

    patch.setattr(TorchStaticKernels, "rms_norm", norm)


def activation(patch: Patch) -> None:
    """GELU in the decoder's MLP in the place of SiLU."""

    class Functional:
        def __getattr__(self, name: str) -> Any:
            return getattr(F, "gelu" if name == "silu" else name)

    patch.setattr(decoder_module, "F", Functional())


def head_norm(patch: Patch) -> None:
    """No norm before the head."""
    patch.setattr(Decoder, "logits", lambda self, hidden: self._head(hidden))


def last_column(patch: Patch) -> None:
    """Scores of a prompt taken after its padding."""
    right = backend_module.prefill_indices

    def wrong(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
        indices = right(batch, cache)
        rows, length = batch.tokens.shape
        return [indices[0], torch.arange(rows) * length + length - 1, *indices[2:]]

    patch.setattr(backend_module, "prefill_indices", wrong)


def resumed_position(patch: Patch) -> None:
    """Resumed prompts go on one position too late."""
    right = backend_module.prefill_indices

    def wrong(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
        first, *rest = right(batch, cache)
        return [first + torch.tensor([[0], [int(batch.offsets.any())], [0]]), *rest]

    patch.setattr(backend_module, "prefill_indices", wrong)


def decode_position(patch: Patch) -> None:
    """Decoding one position too late, and so seeing one place too many."""
    right = backend_module.decode_indices
    patch.setattr(backend_module, "decode_indices", lambda *given: right(*given) + torch.tensor([[0], [1], [0]]))


def left_over(patch: Patch) -> None:
    """Decoding sees what an earlier row left in the slot."""

    def wrong(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
        mask = mask_after(positions, window, dtype)
        return torch.zeros_like(mask) if positions.shape[1] == 1 else mask

    patch.setattr(backend_module, "mask_after", wrong)


def own_token_hidden(patch: Patch) -> None:
    """Decoding does not see its own token."""

    def wrong(positions: torch.Tensor, window: int, dtype: torch.dtype) -> torch.Tensor:
        late = positions - int(positions.shape[1] == 1)
        return mask_after(late.clamp(min=0), window, dtype)

    patch.setattr(backend_module, "mask_after", wrong)


def wrong_slot(patch: Patch) -> None:
    """Prompts written into the slots of their rows, not into those they were given."""
    right = backend_module.prefill_indices

    def wrong(batch: PrefillBatch, cache: KvCache) -> list[torch.Tensor]:
        rows = torch.arange(len(batch.slots)).where(batch.slots >= 0, -1)
        return right(replace(batch, slots=rows), cache)

    patch.setattr(backend_module, "prefill_indices", wrong)


def padding_written(patch: Patch) -> None:
    """Padding and idle rows write where slot 0 begins."""
    right = KvCache.__init__

    def wrong(self: Any, *given: Any) -> None:
        right(self, *given)
        self.scratch = 0

    patch.setattr(KvCache, "__init__", wrong)


def narrow_cache(patch: Patch) -> None:
    """Keys and values of a bf16 backend kept in 8 bits."""
    right = KvCache.write

    def wrong(self: Any, layer: int, places: torch.Tensor, *given: torch.Tensor) -> None:
        right(self, layer, places, *(each.to(torch.float8_e4m3fn).to(each.dtype) for each in given))

    patch.setattr(KvCache, "write", wrong)


class StaleDecode(PlainRunner):
    """Answers with what the run before has answered."""

    kind: type = DecodeShape

    def run(self, key: Any, inputs: Inputs) -> Outputs:
        fresh = tuple(each.clone() for each in super().run(key, inputs))
        held: dict[Any, Outputs] = self.__dict__.setdefault("held", {})
        stale = held.get(key, fresh)
        held[key] = fresh
        return stale if isinstance(key, self.kind) else fresh


class StalePrefill(StaleDecode):
    kind = PrefillShape


class StalePicture(StaleDecode):
    kind = VisionShape


def stale_decode(patch: Patch) -> None:
    """Scores of a decode step read from a graph's output before it has run."""
    patch.setitem(RUNNER, "in use", StaleDecode)


def stale_prefill(patch: Patch) -> None:
    """Scores of a prefill read from a graph's output before it has run."""
    patch.setitem(RUNNER, "in use", StalePrefill)


def stale_picture(patch: Patch) -> None:
    """Features of a picture read from a graph's output before it has run."""
    patch.setitem(RUNNER, "in use", StalePicture)


def image_cache_key(patch: Patch) -> None:
    """Features of pictures seen before found by size alone."""
    patch.setattr(buffer_module, "PictureKey", lambda digest, size, tiles: PictureKey(b"", size, tiles))


def no_newline(patch: Patch) -> None:
    """Zeros in the place of the newline feature."""
    right = LlavaNext.encode

    def wrong(self: Any, *given: torch.Tensor) -> torch.Tensor:
        newline, self._newline = self._newline, torch.zeros_like(self._newline)
        found = right(self, *given)
        self._newline = newline
        return found

    patch.setattr(LlavaNext, "encode", wrong)


def unpadding(patch: Patch) -> None:
    """Padding of portrait pictures cut at the right only."""

    def wrong(size: tuple[int, int], geometry: Any) -> torch.Tensor:
        index = feature_index(size, geometry)
        if size[0] <= size[1]:
            return index
        patches = (geometry.tile // geometry.patch) ** 2
        is_canvas = (torch.arange(len(index)) >= patches) & (index < index.max())
        return index.where(~is_canvas, (index - 1).clamp(min=patches))

    patch.setattr(buffer_module, "feature_index", wrong)


def image_order(patch: Patch) -> None:
    """Two pictures of a prompt in the wrong order."""
    right = PictureBuffer.fill

    def wrong(self: Any, batch: PrefillBatch) -> None:
        images = tuple(
            each and replace(each, tiles=torch.cat(each.tiles.split(each.counts)[::-1])) for each in batch.images
        )
        return right(self, replace(batch, images=images))

    patch.setattr(PictureBuffer, "fill", wrong)


def feature_layer(patch: Patch) -> None:
    """Features of the layer before the wanted one."""
    right = VisionTower.features

    def wrong(self: Any, states: list[torch.Tensor], tiles: int) -> torch.Tensor:
        return right(self, [states[0], *states[:-1]], tiles)

    patch.setattr(VisionTower, "features", wrong)


def class_token(patch: Patch) -> None:
    """The class token kept, and the last patch dropped in its place."""

    def wrong(self: Any, states: list[torch.Tensor], tiles: int) -> torch.Tensor:
        chosen = torch.cat([states[index] for index in self._wanted], -1).view(tiles, self._side**2 + 1, -1)
        return chosen[:, :-1].reshape(tiles * self._side**2, -1)

    patch.setattr(VisionTower, "features", wrong)


def vision_activation(patch: Patch) -> None:
    """GELU in the vision tower in the place of its approximation."""
    patch.setitem(vision_module.ACTIVATIONS, "quick_gelu", F.gelu)  # type: ignore[arg-type]


def vision_scale(patch: Patch) -> None:
    """Scores of the vision tower not scaled."""

    def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)

    patch.setattr(TorchStaticKernels, "attend", attend)


def vision_positions(patch: Patch) -> None:
    """Patches of the vision tower placed one too late."""
    right = VisionTower._embedded

    def wrong(self: Any, tiles: torch.Tensor) -> torch.Tensor:
        positions, self._positions = self._positions, self._positions.roll(1, 0)
        found = right(self, tiles)
        self._positions = positions
        return found

    patch.setattr(VisionTower, "_embedded", wrong)


def projector(patch: Patch) -> None:
    """The tanh form of GELU in the projector."""

    def wrong(self: Any, features: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self._project_out(F.gelu(self._project_in(features), approximate="tanh"))
        return hidden

    patch.setattr(VisionTower, "project", wrong)


def residual(patch: Patch) -> None:
    """The third layer without its residual."""
    right = Layer.__call__

    def wrong(self: Any, hidden: torch.Tensor, *rest: Any) -> torch.Tensor:
        found = right(self, hidden, *rest)
        return found - hidden if self._index == 2 else found

    patch.setattr(Layer, "__call__", wrong)


def _pixels(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Patch], None]:
    def apply(patch: Patch) -> None:
        for name in ("stages", "fill"):
            owner: Any = LlavaNext if name == "stages" else PictureBuffer
            patch.setattr(owner, name, _changed(getattr(owner, name), change))

    return apply


def _changed(right: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    def wrong(self: Any, given: Any, *rest: Any) -> Any:
        images = given.images if isinstance(given, PrefillBatch) else given
        changed = tuple(each and replace(each, tiles=change(each.tiles)) for each in images)
        return right(self, replace(given, images=changed) if isinstance(given, PrefillBatch) else changed, *rest)

    return wrong


def transposed(patch: Patch) -> None:
    """Pixels with rows and columns swapped."""
    _pixels(lambda tiles: tiles.transpose(-1, -2))(patch)


def channels(patch: Patch) -> None:
    """Pixels in the order blue, green, red."""
    _pixels(lambda tiles: tiles.flip(1))(patch)


def normalised(patch: Patch) -> None:
    """Pixels normalised by a standard deviation of 0.5 in the place of 0.27."""
    _pixels(lambda tiles: tiles * 0.54)(patch)


def bf16_rope(patch: Patch) -> None:
    """Decoding of a bf16 backend one position too late."""
    decode_position(patch)


def bf16_scale(patch: Patch) -> None:
    """Scores of a prompt scaled by 1 / d, in a bf16 backend."""
    softmax_scale(patch)


def bf16_newline(patch: Patch) -> None:
    """Zeros in the place of the newline feature, in a bf16 backend."""
    no_newline(patch)


def bf16_class_token(patch: Patch) -> None:
    """The class token kept, in a bf16 backend."""
    class_token(patch)


BF16 = torch.bfloat16
FAULTS = {
    fault.make.__name__: fault
    for fault in (
        Fault(transposed, "pixels"),
        Fault(channels, "pixels", often=False),
        Fault(normalised, "pixels", often=False),
        Fault(vision_positions, "vision.0"),
        Fault(narrow_weights, "vision.0", often=False),
        Fault(vision_scale, "vision.1", often=False),
        Fault(vision_activation, "vision.1"),
        Fault(feature_layer, "vision"),
        Fault(class_token, "vision"),
        Fault(projector, "projector"),
        Fault(no_newline, "embeddings"),
        Fault(unpadding, "embeddings"),
        Fault(image_order, "embeddings"),
        Fault(stale_picture, "embeddings"),
        Fault(image_cache_key, "embeddings"),
        Fault(rope_base, "decoder.1"),
        Fault(rope_interleaved, "decoder.1", often=False),
        Fault(swapped_heads, "decoder.2"),
        Fault(grouped_wrongly, "decoder.1", often=False),
        Fault(softmax_scale, "decoder.1"),
        Fault(not_causal, "decoder.1", often=False),
        Fault(narrow_accumulation, "decoder.1"),
        Fault(norm_epsilon, "decoder.1"),
        Fault(activation, "decoder.1", often=False),
        Fault(residual, "decoder.3"),
        Fault(head_norm, "prefill logits", often=False),
        Fault(last_column, "prefill logits"),
        Fault(stale_prefill, "prefill logits", often=False),
        Fault(resumed_position, "prefill logits", often=False),
        Fault(decode_position, "decode logits"),
        Fault(left_over, "decode logits"),
        Fault(own_token_hidden, "decode logits", often=False),
        Fault(wrong_slot, "decode logits"),
        Fault(padding_written, "prefill logits"),
        Fault(stale_decode, "decode logits"),
        Fault(narrow_cache, "decode logits", BF16),
        Fault(bf16_rope, "decode logits", BF16),
        Fault(bf16_scale, "decoder.1", BF16, often=False),
        Fault(bf16_newline, "embeddings", BF16),
        Fault(bf16_class_token, "vision", BF16, often=False),
    )
}
