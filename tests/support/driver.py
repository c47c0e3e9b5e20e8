"""Hand-built batches for a backend under test, and greedy decoding over its slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from runtime.backend import DecodeBatch, DecodeShape, Images, Limits, Placement, PrefillBatch, PrefillShape

LIMITS = Limits(rows=4, context=512, prefill_rows=4, prefill_tokens=400)


@dataclass(frozen=True)
class Prompt:
    """One row, unpadded."""

    tokens: torch.Tensor  # int64 [length]
    images: Images | None


@dataclass
class Driver:
    """Plays core's part: keeps slots decoding greedily."""

    backend: Any  # Backend, with release
    replies: dict[int, list[int]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)

    def join(self, prompts: Mapping[int, Prompt]) -> torch.Tensor:
        """Prefill these slots' prompts in one batch and return the logits."""
        output = self.backend.prefill(prefill_batch(prompts))
        rows = [Placement(row, slot) for row, slot in enumerate(prompts)]
        self.backend.concatenate(output.prefix, rows)
        for row, (slot, prompt) in enumerate(prompts.items()):
            self.replies[slot] = [int(output.logits[row].argmax())]
            self.positions[slot] = len(prompt.tokens)
        return output.logits

    def leave(self, slot: int) -> list[int]:
        self.backend.release([slot])
        del self.positions[slot]
        return self.replies.pop(slot)

    def step(self, slots: set[int] | None = None) -> torch.Tensor:
        """Decode one token on these slots, all by default, and return the logits."""
        active = [slot in (self.positions if slots is None else slots) for slot in range(LIMITS.rows)]
        tokens = [self.replies[slot][-1] if active[slot] else 5 for slot in range(LIMITS.rows)]
        positions = [self.positions[slot] if active[slot] else 0 for slot in range(LIMITS.rows)]
        shape = DecodeShape(LIMITS.rows, LIMITS.context)
        batch = DecodeBatch(shape, torch.tensor(tokens), torch.tensor(positions), torch.tensor(active))
        logits = self.backend.decode(batch).logits
        for slot in (slot for slot in range(LIMITS.rows) if active[slot]):
            self.replies[slot].append(int(logits[slot].argmax()))
            self.positions[slot] += 1
        return logits


def prefill_batch(prompts: Mapping[int, Prompt], padding_rows: int = 0) -> PrefillBatch:
    """Right-pad with a token that means something, so that reading the padding would show."""
    longest = max(len(prompt.tokens) for prompt in prompts.values()) + 3
    rows = [torch.nn.functional.pad(p.tokens, (0, longest - len(p.tokens)), value=11) for p in prompts.values()]
    rows += [torch.full((longest,), 11)] * padding_rows
    images = tuple(prompt.images for prompt in prompts.values())
    return PrefillBatch(
        shape=PrefillShape(len(rows), longest),
        tokens=torch.stack(rows),
        lengths=torch.tensor([len(prompt.tokens) for prompt in prompts.values()] + [0] * padding_rows),
        offsets=torch.zeros(len(rows), dtype=torch.int64),
        slots=torch.tensor([*prompts] + [-1] * padding_rows),
        images=images + (None,) * padding_rows,
    )
