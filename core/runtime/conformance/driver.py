"""Core's part towards a backend, without requests, queues and sampling: prompts into slots, tokens after them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runtime.backend import DecodeBatch, Placement, PrefillBatch
from runtime.batches import NO_SLOT, ShapeLookup
from runtime.conformance.prompts import Prompt
from runtime.parts import images_within
from runtime.plugins import Hooks

PADDING: Final = 0
"""What core fills the unused places of a prefill with."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a prompt's tokens; what is before them is in the slot already."""

    prompt: Prompt
    start: int
    stop: int

    @classmethod
    def whole(cls, prompt: Prompt) -> Part:
        """Return all of a prompt."""
        return cls(prompt, 0, len(prompt))


class Driver:
    """Drives one loaded backend; scores come as copies, float32 [vocabulary], cpu."""

    def __init__(self, hooks: Hooks, shapes: ShapeLookup, prefill_rows: int) -> None:
        self.hooks = hooks
        self.shapes = shapes
        self.held: dict[int, int] = {}
        """Tokens that each leased slot holds."""
        self._prefill_rows = prefill_rows

    def prefill(
        self, parts: Mapping[int, Part], placed: Collection[int] | None = None, backwards: bool = False
    ) -> dict[int, torch.Tensor]:
        """Compute parts, by slot, and place those rows of them that are `placed`, all without it.

        With `backwards` the last row is placed first. Returns the scores after each part, by slot.
        """
        scores: dict[int, torch.Tensor] = {}
        for group in self._groups(parts):
            output = self.hooks.prefill(self.batch({slot: parts[slot] for slot in group}))
            logits = output.logits.float().cpu().clone()
            wanted = [Placement(row, slot) for row, slot in enumerate(group) if placed is None or slot in placed]
            if wanted:
                self.hooks.concatenate(output.prefix, wanted[::-1] if backwards else wanted)
            self.held |= {each.slot: parts[each.slot].stop for each in wanted}
            scores |= {slot: logits[row] for row, slot in enumerate(group)}
        return scores

    def decode(self, tokens: Mapping[int, int]) -> dict[int, torch.Tensor]:
        """Append a token to each of these slots while the others hold still; return the scores after it, by slot."""
        shape = self.shapes.decode_for(max(tokens) + 1, max(self.held[slot] for slot in tokens) + 1)
        appended, positions, active = [0] * shape.rows, [0] * shape.rows, [False] * shape.rows
        for slot, token in tokens.items():
            appended[slot], positions[slot], active[slot] = token, self.held[slot], True
        batch = DecodeBatch(shape, torch.tensor(appended), torch.tensor(positions), torch.tensor(active))
        logits = self.hooks.decode(batch).logits.float().cpu().clone()
        for slot in tokens:
            self.held[slot] += 1
        return {slot: logits[slot] for slot in tokens}

    def release(self, slots: Collection[int]) -> None:
        """End rows."""
        for slot in slots:
            self.held.pop(slot, None)
        self.hooks.release(sorted(slots))

    def clear(self) -> None:
        """End every row."""
        if self.held:
            self.release(tuple(self.held))

    def batch(self, parts: Mapping[int, Part], padding: int = PADDING, prompt_logprobs: bool = False) -> PrefillBatch:
        """Return the batch that computes parts together, by slot; unused places are filled with `padding`."""
        lengths = [part.stop - part.start for part in parts.values()]
        shape = self.shapes.prefill_for(len(parts), max(lengths), max(part.start for part in parts.values()))
        empty = shape.rows - len(parts)
        tokens = torch.full((shape.rows, shape.length), padding, dtype=torch.int64)
        for row, part in enumerate(parts.values()):
            tokens[row, : lengths[row]] = torch.tensor(part.prompt.tokens[part.start : part.stop])
        images = [
            images_within(part.prompt.images, part.prompt.places, slice(part.start, part.stop))
            for part in parts.values()
        ]
        return PrefillBatch(
            shape=shape,
            tokens=tokens,
            lengths=torch.tensor([*lengths, *[0] * empty]),
            offsets=torch.tensor([*(part.start for part in parts.values()), *[0] * empty]),
            slots=torch.tensor([*parts, *[NO_SLOT] * empty]),
            images=(*images, *[None] * empty),
            prompt_logprobs=prompt_logprobs,
        )

    def _groups(self, parts: Mapping[int, Part]) -> Iterator[Sequence[int]]:
        """Yield slots that are computed together, as core does: those that begin, then those that continue."""
        begin = [slot for slot, part in parts.items() if not part.start]
        rest = [slot for slot, part in parts.items() if part.start]
        for slots, most in ((begin, self._prefill_rows), (rest, self.shapes.resumed_rows)):
            for start in range(0, len(slots), most):
                yield slots[start : start + most]
