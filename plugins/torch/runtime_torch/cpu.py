"""The `cpu` backend: the toolkit's model on the CPU, in any shape and without padding."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from runtime import hookimpl
from runtime.backend import (
    Capacity,
    DecodeBatch,
    DecodeOutput,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillOutput,
    Prefix,
)
from runtime.static.model import LlavaNext
from runtime.static.weights import Weights

from runtime_torch.linear import CpuKernels
from runtime_torch.ragged import PrefillStep, RaggedAttention, Span, Step, decode_step, strided
from runtime_torch.row_cache import RowCache

TOGETHER: Final = 1024
"""Tokens of prompts that go through the layers together: enough for the matrix units, few enough for the caches."""


class Cpu:
    """The hooks of the backend."""

    def __init__(self, model: ModelSpec, limits: Limits, dtype: torch.dtype, cache_bytes: int) -> None:
        """Load the weights in `dtype`; raises BackendRefused."""
        self._limits = limits
        self._dtype = dtype
        self._vocabulary = model.vocabulary
        self._image_token = model.image_token_id
        self._encode_seconds = 0.0
        self._overflown: set[int] = set()
        """Slots that may hold what is no number, which their next row must not see."""
        width = model.decoder.head_dim
        self._rows = RowCache(model.layers, limits.rows, limits.context, model.kv_heads, width, dtype)
        attention = RaggedAttention(self._rows, width)
        with Weights(model.path, dtype) as weights:
            self._model: LlavaNext[Step] = LlavaNext(
                model, weights, CpuKernels(), attention, limits.context, cache_bytes
            )

    @hookimpl
    @torch.inference_mode()
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        decoder = self._model.decoder
        logits = torch.zeros(len(batch.tokens), self._vocabulary, dtype=self._dtype)
        logprobs = torch.zeros(batch.tokens.shape) if batch.prompt_logprobs else None
        self._rows.reserve(int((batch.offsets + batch.lengths).max()))
        for slot in self._overflown.intersection(batch.slots[batch.offsets == 0].tolist()):
            self._rows.clear(slot)
            self._overflown.remove(slot)
        for rows, step in self._steps(batch):
            tokens = _together(batch, rows, step)
            hidden = self._forward(self._embedded(tokens, rows, batch), step)
            ends = torch.tensor([span.start + span.length - 1 for span in step.spans])
            self._watch([span.slot for span in step.spans], hidden[ends])
            logits[rows] = decoder.logits(hidden[ends])
            if logprobs is not None:
                for row, span in zip(rows, step.spans, strict=True):
                    held = slice(span.start, span.start + span.length)
                    logprobs[row, 1 : span.length] = self._logprobs(hidden[held], tokens[held])
        return PrefillOutput(logits=logits, prefix=Prefix(None), prompt_logprobs=logprobs)

    @hookimpl
    def concatenate(self, prefix: Prefix[None], placements: Sequence[Placement]) -> None:
        """Nothing moves: a prefill writes into the slots its rows have leased."""

    @hookimpl
    @torch.inference_mode()
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        slots = batch.active.nonzero().flatten()
        positions = batch.positions[slots]
        self._rows.reserve(int(positions.max()) + 1)
        step = decode_step(slots.tolist(), positions.tolist(), self._rows)
        decoder = self._model.decoder
        hidden = decoder.forward(decoder.embed(batch.tokens[slots]), positions, step)
        self._watch(slots.tolist(), hidden)
        if len(slots) == len(batch.tokens):
            return DecodeOutput(decoder.logits(hidden))
        logits = torch.zeros(len(batch.tokens), self._vocabulary, dtype=self._dtype)
        logits[slots] = decoder.logits(hidden)
        return DecodeOutput(logits)

    @hookimpl
    @torch.inference_mode()
    def stages(self, batch: PrefillBatch, layers: bool) -> dict[str, torch.Tensor]:
        self._rows.reserve(int(batch.lengths.max()))
        parts: list[dict[str, torch.Tensor]] = []
        for rows, step in self._steps(batch):
            embedded, outputs = self._embedded(_together(batch, rows, step), rows, batch), list[torch.Tensor]()
            self._forward(embedded, step, outputs)
            parts.append({"embeddings": embedded, "decoder": outputs[-1][: len(embedded)]})
            if layers:
                parts[-1] |= {f"decoder.{at}": each[: len(embedded)] for at, each in enumerate(outputs, start=1)}
        of_tokens = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._model.stages(batch.images, layers) | of_tokens

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(rows=self._limits.rows, context=self._limits.context, resumes=True)

    @hookimpl
    def stats(self) -> dict[str, float]:
        return {**self._model.stats(), "image_encode_seconds": self._encode_seconds}

    def _steps(self, batch: PrefillBatch) -> Iterator[tuple[list[int], PrefillStep]]:
        """Yield rows to compute together, and where their tokens lie; a long row goes alone."""
        rows: list[int] = []
        spans: list[Span] = []
        start = 0
        for row, (length, slot, offset) in enumerate(
            zip(batch.lengths.tolist(), batch.slots.tolist(), batch.offsets.tolist(), strict=True)
        ):
            if length == 0:
                continue
            if rows and start + length > TOGETHER:
                yield rows, PrefillStep(tuple(spans))
                rows, spans, start = [], [], 0
            rows.append(row)
            spans.append(Span(start, length, slot, offset))
            start += length
        if rows:
            yield rows, PrefillStep(tuple(spans))

    def _forward(
        self, embedded: torch.Tensor, step: PrefillStep, outputs: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Run the layers over the tokens of a step, and over some behind them that count nothing."""
        positions = torch.cat([torch.arange(span.offset, span.offset + span.length) for span in step.spans])
        behind = strided(len(positions)) - len(positions)
        padded = F.pad(embedded, (0, 0, 0, behind))
        return self._model.decoder.forward(padded, F.pad(positions, (0, behind)), step, outputs)

    def _embedded(self, tokens: torch.Tensor, rows: list[int], batch: PrefillBatch) -> torch.Tensor:
        """Return the vectors of tokens, those of pictures in the place of their placeholders."""
        hidden = self._model.decoder.embed(tokens)
        images = [of_row for row in rows if (of_row := batch.images[row]) is not None]
        if images:
            started = time.perf_counter()
            features = [picture for of_row in images for picture in self._model.pictures(of_row)]
            hidden[tokens == self._image_token] = torch.cat(features)
            self._encode_seconds += time.perf_counter() - started
        return hidden

    def _watch(self, slots: Sequence[int], hidden: torch.Tensor) -> None:
        """Note the slots whose newest token, which sees all the others, came to what is no number."""
        finite = hidden.isfinite().all(-1)
        if not finite.all():
            self._overflown.update(
                slot for slot, is_finite in zip(slots, finite.tolist(), strict=True) if not is_finite
            )

    def _logprobs(self, hidden: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of each token but the first, in blocks that keep the scores small."""
        parts = []
        for start in range(0, len(tokens) - 1, TOGETHER):
            stop = min(start + TOGETHER, len(tokens) - 1)
            scores = self._model.decoder.logits(hidden[start:stop]).float()
            parts.append(scores.log_softmax(-1).gather(-1, tokens[start + 1 : stop + 1, None])[:, 0])
        return torch.cat(parts) if parts else torch.zeros(0)


def _together(batch: PrefillBatch, rows: Sequence[int], step: PrefillStep) -> torch.Tensor:
    """Return the tokens of rows one behind the other: int64 [tokens]."""
    return torch.cat([batch.tokens[row, : span.length] for row, span in zip(rows, step.spans, strict=True)])
