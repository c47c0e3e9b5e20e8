"""The oracle's arithmetic: transformers' forward pass in fp32 with eager attention, one unpadded row at a time.

It shares no model code with any other backend, and is kept so small that it is obviously right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers
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
    Prefix,
)

from runtime_cpu_reference.net import load_net
from runtime_cpu_reference.watch import Watch


@dataclass(slots=True)
class Row:
    """One sequence."""

    tokens: torch.Tensor  # int64 [1, length], cpu; everything the row holds
    pictures: dict[str, torch.Tensor]
    """Arguments of the forward pass that computes the prompt; empty for a text row."""
    cache: transformers.DynamicCache | None
    """None for a row that is computed anew in every step."""


class CpuReference:
    """The hooks of the oracle; with `recompute` every step runs the whole row again and no cache is used."""

    def __init__(
        self, model: ModelSpec, limits: Limits, dtype: torch.dtype = torch.float32, *, recompute: bool = False
    ) -> None:
        self.model = model
        self.limits = limits
        self.dtype = dtype
        self.recompute = recompute
        self.net = load_net(model, dtype)
        self.slots: dict[int, Row] = {}

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        if batch.offsets.any():
            raise ValueError("cpu_reference computes whole prompts only: every offset must be 0")
        logits = torch.zeros(len(batch.tokens), self.model.vocabulary, dtype=self.dtype)
        logprobs = torch.zeros(batch.tokens.shape) if batch.prompt_logprobs else None
        rows: list[Row | None] = []
        for index, length in enumerate(batch.lengths.tolist()):
            if length == 0:
                rows.append(None)
                continue
            tokens = batch.tokens[index : index + 1, :length]
            cache = None if self.recompute else transformers.DynamicCache()
            row = Row(tokens[:, :0], pictures_of(batch.images[index]), cache)
            every = self.append(row, tokens, every_position=batch.prompt_logprobs)
            logits[index] = every[-1]
            if logprobs is not None:
                logprobs[index, 1:length] = every[:-1].log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
            rows.append(row)
        return PrefillOutput(logits=logits, prefix=Prefix(rows), prompt_logprobs=logprobs)

    @hookimpl
    def concatenate(self, prefix: Prefix[list[Row | None]], placements: Sequence[Placement]) -> None:
        for placement in placements:
            row = prefix.state[placement.row]
            if row is None:
                raise ValueError(f"row {placement.row} of the prefill is padding and cannot be placed")
            self.slots[placement.slot] = row

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        logits = torch.zeros(len(batch.tokens), self.model.vocabulary, dtype=self.dtype)
        for slot in batch.active.nonzero().flatten().tolist():
            row, position = self.slots.get(slot), int(batch.positions[slot])
            if row is None:
                raise ValueError(f"slot {slot} is active but holds nothing")
            if position != row.tokens.shape[1]:
                raise ValueError(
                    f"slot {slot} holds {row.tokens.shape[1]} tokens but position {position} was asked for"
                )
            logits[slot] = self.append(row, batch.tokens[slot].view(1, 1))[-1]
        return DecodeOutput(logits=logits)

    @hookimpl
    def stages(self, batch: PrefillBatch, layers: bool) -> dict[str, torch.Tensor]:
        with Watch(self.net, layers) as watch:
            for index, length in enumerate(batch.lengths.tolist()):
                if length:
                    row = Row(torch.empty(1, 0, dtype=torch.int64), pictures_of(batch.images[index]), None)
                    self.append(row, batch.tokens[index : index + 1, :length])
        return watch.stages()

    @hookimpl
    def release(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self.slots.pop(slot, None)

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(rows=self.limits.rows, context=self.limits.context)

    @torch.no_grad()
    def append(self, row: Row, tokens: torch.Tensor, *, every_position: bool = False) -> torch.Tensor:
        """Add tokens to a row and return the logits after the last, or after each: [1 or all, vocabulary]."""
        is_prompt = row.tokens.shape[1] == 0
        row.tokens = torch.cat([row.tokens, tokens], dim=1)
        keep = 0 if every_position else 1  # 0 keeps all
        if row.cache is None:
            output = self.net(input_ids=row.tokens, **row.pictures, use_cache=False, logits_to_keep=keep)
        else:
            pictures = row.pictures if is_prompt else {}
            output = self.net(
                input_ids=tokens, **pictures, past_key_values=row.cache, use_cache=True, logits_to_keep=keep
            )
        logits: torch.Tensor = output.logits[0]
        return logits


def pictures_of(images: Images | None) -> dict[str, torch.Tensor]:
    """Return a row's pictures as the forward pass takes them: all tiles in one list, no padding tiles."""
    if images is None:
        return {}
    return {"pixel_values": images.tiles, "image_sizes": torch.tensor(images.sizes)}
