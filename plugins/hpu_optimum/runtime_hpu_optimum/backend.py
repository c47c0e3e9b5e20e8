"""The hooks of `hpu_optimum`: optimum-habana's forward pass and its static shapes, driven for rows that come and go.

Prompts go through its `prepare_inputs_for_generation`, one by one. A step gives its `forward` what that function makes
of rows with pictures; of rows without it would make the whole sequence again. As in its own use with
`limit_hpu_graphs`, only steps are recorded as graphs, and every step computes all rows over the whole cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from runtime import hookimpl
from runtime.backend import (
    Capacity,
    DecodeBatch,
    DecodeOutput,
    Images,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    PrefillShape,
    Prefix,
    Shape,
    ShapePlan,
    VisionShape,
    WarmupProgress,
)
from runtime.errors import DeviceLost
from runtime.static.warmup import empty_decode, empty_prefill, largest_first

from runtime_hpu_optimum.cache import Cache, CacheShape, Layers
from runtime_hpu_optimum.net import Net
from runtime_hpu_optimum.watch import watching

NO_MEMORY: Final = "Allocation failed"
"""What the vendor's allocator says; after any other error of the device its state is not known."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A computed prompt."""

    length: int
    logits: torch.Tensor  # float32 [vocabulary], cpu; after the last token
    layers: Layers
    """Its keys and values, padded as the prompt was."""


class HpuOptimum:
    """The hooks; DeviceLost ends the worker. Scores are brought to the host, which is the one read of a step.

    The device compiles for every new shape, and rows are sampled in ever new mixes.
    """

    def __init__(self, model: ModelSpec, limits: Limits, net: Net) -> None:
        self._net = net
        self._limits = limits
        self._model = model
        self._encode_seconds = 0.0
        shape = CacheShape(model.layers, limits.rows, model.kv_heads, limits.context, model.decoder.head_dim)
        self._cache = Cache(shape, net.dtype, net.device)

    @hookimpl
    @torch.no_grad()
    def warmup(self, plan: ShapePlan, progress: Callable[[WarmupProgress], None]) -> None:
        """Run every shape; how pictures join the text depends on their sizes in pixels, which no plan has."""
        shapes = largest_first(plan, self._limits.rows)
        for done, shape in enumerate(shapes, start=1):
            started = time.perf_counter()
            with relying():
                self._warm(shape)
            progress(WarmupProgress(done, len(shapes), shape, time.perf_counter() - started))

    @hookimpl
    @torch.no_grad()
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        if batch.offsets.any():
            raise ValueError("hpu_optimum computes whole prompts only: every offset must be 0")
        with relying():
            prompts = [
                self._prompt(batch.tokens[row : row + 1], length, batch.images[row]) if length else None
                for row, length in enumerate(batch.lengths.tolist())
            ]
        nothing = torch.zeros(self._model.vocabulary)
        logits = torch.stack([nothing if prompt is None else prompt.logits for prompt in prompts])
        return PrefillOutput(logits=logits, prefix=Prefix(prompts))

    @hookimpl
    @torch.no_grad()
    def concatenate(self, prefix: Prefix[list[Prompt | None]], placements: Sequence[Placement]) -> None:
        for placement in placements:
            prompt = prefix.state[placement.row]
            if prompt is None:
                raise ValueError(f"row {placement.row} of the prefill is padding and cannot be placed")
            with relying():
                self._cache.place(placement.slot, prompt.length, prompt.layers)

    @hookimpl
    @torch.no_grad()
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        absent = self._limits.rows - len(batch.tokens)
        tokens, positions, active = (F.pad(each, (0, absent)) for each in (batch.tokens, batch.positions, batch.active))
        self._check_positions(positions, active)
        with relying():
            column = self._cache.append(active)
            output = self._net.module(
                input_ids=self._sent(tokens[:, None]),
                position_ids=self._sent(positions[:, None]),
                attention_mask=self._sent(self._cache.columns.held.long()),
                past_key_values=self._cache.layers,
                token_idx=self._sent(torch.tensor(column + 1)),  # the new token is the one before it
                use_cache=True,
                **self._net.attention.arguments(),
            )
            logits = output.logits[:, -1].float().cpu()
        return DecodeOutput(logits[: len(batch.tokens)])

    @hookimpl
    @torch.no_grad()
    def stages(self, batch: PrefillBatch, layers: bool) -> Mapping[str, torch.Tensor]:
        with relying(), watching(self._net.module, layers=layers) as watch:
            for row, watch.length in enumerate(batch.lengths.tolist()):
                if watch.length:
                    self._prompt(batch.tokens[row : row + 1], watch.length, batch.images[row])
        return watch.stages()

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._cache.columns.release(slot)

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(rows=self._limits.rows, context=self._limits.context, details=self._net.details())

    @hookimpl
    def stats(self) -> Mapping[str, float]:
        return {"image_encode_seconds": self._encode_seconds}

    def _prompt(self, tokens: torch.Tensor, length: int, images: Images | None) -> Prompt:
        """Compute one prompt (int64 [1, padded length], cpu)."""
        started = time.perf_counter()
        end = self._sent(torch.tensor(length))
        inputs = self._net.module.prepare_inputs_for_generation(
            self._sent(tokens),
            attention_mask=self._sent((torch.arange(tokens.shape[1]) < length).long()[None]),
            token_idx=end,
            use_cache=True,
            **self._pictures(images),
            **self._net.attention.arguments(),
        )
        if images is not None:  # the merge has read from the device, so that is done with the pictures
            self._encode_seconds += time.perf_counter() - started
        output = self._net.module(**inputs, **({"bypass_hpu_graphs": True} if self._net.graphs else {}))
        logits = output.logits.index_select(1, end - 1)[0, 0].float().cpu()
        return Prompt(length, logits, output.past_key_values)

    def _pictures(self, images: Images | None) -> Mapping[str, torch.Tensor]:
        """Return pictures as optimum-habana takes them: all of as many tiles, side by side."""
        if images is None:
            return {}
        if len(set(images.counts)) > 1:
            raise ValueError(
                f"pictures of {', '.join(map(str, images.counts))} tiles in one prompt: optimum-habana takes pictures "
                "of equally many tiles only"
            )
        tiles = images.tiles.view(len(images.counts), images.counts[0], *images.tiles.shape[1:])
        return {"pixel_values": self._sent(tiles), "image_sizes": torch.tensor(images.sizes)}

    def _check_positions(self, positions: torch.Tensor, active: torch.Tensor) -> None:
        held = self._cache.columns.lengths
        for slot in (active & (positions != held)).nonzero().flatten().tolist():
            raise ValueError(
                f"slot {slot} holds {int(held[slot])} tokens but position {int(positions[slot])} was asked for"
            )

    def _warm(self, shape: Shape) -> None:
        if isinstance(shape, PrefillShape):
            self.prefill(replace(empty_prefill(shape), lengths=torch.ones(shape.rows, dtype=torch.int64)))
        elif isinstance(shape, VisionShape):
            assert self._model.images is not None
            side = self._model.images.tile
            tiles = torch.zeros(shape.tiles, 3, side, side)
            tower, flags = self._net.module.vision_tower, self._net.attention.arguments()
            # Nothing is computed in lazy mode before something is read.
            tower(self._sent(tiles), output_hidden_states=True, **flags).last_hidden_state.cpu()
        else:
            self.decode(empty_decode(shape))

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._net.device)


@contextmanager
def relying() -> Iterator[None]:
    """Make DeviceLost of an error after which the device cannot be relied on."""
    try:
        yield
    except RuntimeError as error:
        if NO_MEMORY in str(error):
            raise
        raise DeviceLost("the device failed, and the worker is started anew; try again") from error
