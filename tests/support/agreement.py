"""A backend and the oracle, given the same random traffic: joins, leaves, resumed slots, idle rows.

Plays core's part for both. The oracle computes every prompt whole and alone; the backend gets it batched, in whatever
slot, in parts where it can resume, and padded where its shapes are planned. Both decode greedily, each on its own
tokens, so one difference ends the agreement.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from runtime.backend import (
    DecodeBatch,
    DecodeShape,
    ImageGeometry,
    Images,
    Limits,
    ModelSpec,
    Placement,
    PrefillBatch,
    PrefillShape,
)
from runtime.geometry import feature_count, tile_count
from runtime.shapes import PlannedShapes
from support.checkpoints import Checkpoint

GEOMETRIES = {
    "grouped heads": Checkpoint(),
    "one key head, tied": Checkpoint(kv_heads=1, tied=True, feature_layer=-1, seed=1),
    "ungrouped, wide heads": Checkpoint(kv_heads=4, head_dim=24, layers=3, dtype="float32", seed=2),
    "other tiles": Checkpoint(tile=30, patch=6, pinpoints=((30, 60), (60, 60), (90, 30)), dtype="float16", seed=3),
    "llama inside": Checkpoint(language="llama", vision_layers=2, feature_layer=1, seed=4),
    "text": Checkpoint("MistralForCausalLM", seed=5),
    "text, llama": Checkpoint("LlamaForCausalLM", "llama", layers=3, seed=6),
}
"""Models that any two backends must agree on."""

NOISE = 1e-3
"""Standard deviations of the logits that two orders of summation in fp32 may make; ten times what is seen."""

PADDING = 11
"""A token like any other: what pads must not matter."""
IDLE = (5, 0, False)
"""Token, position and activity of a row that holds still."""


@dataclass(frozen=True)
class Picture:
    """What a prompt shows."""

    tiles: torch.Tensor
    size: tuple[int, int]
    digest: bytes


@dataclass(frozen=True)
class Prompt:
    """Token ids and pictures; `cuts` are the places where it may be cut, not within a picture."""

    tokens: tuple[int, ...]
    images: Images | None
    starts: tuple[int, ...]
    """Where each picture begins."""

    def part(self, start: int, stop: int) -> tuple[torch.Tensor, Images | None]:
        """Return the tokens from `start` to `stop` and the pictures in them."""
        tokens = torch.tensor(self.tokens[start:stop])
        chosen = [index for index, begin in enumerate(self.starts) if start <= begin < stop]
        if self.images is None or not chosen:
            return tokens, None
        tiles = self.images.tiles.split(self.images.counts)
        return tokens, Images(
            torch.cat([tiles[index] for index in chosen]),
            tuple(self.images.counts[index] for index in chosen),
            tuple(self.images.sizes[index] for index in chosen),
            tuple(self.images.digests[index] for index in chosen),
        )

    def cut(self, chance: random.Random) -> int:
        """Return a random place after the first token that is not within a picture."""
        at = chance.randrange(1, len(self.tokens))
        image = self.tokens[at]
        if self.images is not None and self.tokens[at - 1] == image and any(start < at for start in self.starts):
            at = max(start for start in self.starts if start < at)
        return at


@dataclass
class Agreement:
    """Random traffic for one pair."""

    model: ModelSpec
    limits: Limits
    backend: Any
    oracle: Any
    seed: int
    resumes: bool = False
    shapes: PlannedShapes | None = None
    """What the backend's batches are padded to; None for one that takes any shape."""
    longest: int = 120
    """Tokens of text in a prompt."""
    leaving: float = 0.1
    """How often a row leaves."""
    largest: int = 120
    """Pixels of a picture's side."""
    differences: list[float] = field(default_factory=list)
    """Largest difference of logits in each step, in standard deviations of the oracle's."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.replies: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}
        self.requests = 0
        self.seen: list[Picture] = []

    def run(self, steps: int) -> None:
        """Join, decode and leave at random; AssertionError when a greedy token differs."""
        for _ in range(steps):
            free = [slot for slot in range(self.limits.rows) if slot not in self.replies]
            if free and (not self.replies or self.chance.random() < 0.3):
                count = self.chance.randint(1, min(len(free), self.limits.prefill_rows))
                self.join(self.chance.sample(free, count))
            elif self.chance.random() < self.leaving:
                self.leave(self.chance.choice(sorted(self.replies)))
            else:
                full = [slot for slot in self.replies if self.position(slot) >= self.limits.context - 1]
                for slot in full:
                    self.leave(slot)
                if self.replies:
                    count = self.chance.randint(1, len(self.replies))
                    self.decode(self.chance.sample(sorted(self.replies), count))

    def prompt(self) -> Prompt:
        """Return random text around up to two random pictures."""
        tokens, pictures, starts = [1], [], []
        geometry = self.model.images
        for _ in range(0 if geometry is None else self.chance.choice((0, 0, 1, 1, 2))):
            assert geometry is not None
            assert self.model.image_token_id is not None
            pictures.append(self.picture(geometry))
            starts.append(len(tokens))
            tokens += [self.model.image_token_id] * feature_count(pictures[-1].size, geometry)
            tokens += self.text(self.chance.randint(1, 5))
        tokens += self.text(self.chance.randint(1, self.longest))
        if geometry is None or not pictures or len(tokens) > self.limits.prefill_tokens:
            tokens = [token for token in tokens if token != self.model.image_token_id]
            return Prompt(tuple(tokens[: self.limits.prefill_tokens]), None, ())
        images = Images(
            torch.cat([picture.tiles for picture in pictures]),
            tuple(len(picture.tiles) for picture in pictures),
            tuple(picture.size for picture in pictures),
            tuple(picture.digest for picture in pictures),
        )
        return Prompt(tuple(tokens), images, tuple(starts))

    def picture(self, geometry: ImageGeometry) -> Picture:
        """Return a picture of random size, or one that was there before."""
        if self.seen and self.chance.random() < 0.5:
            return self.chance.choice(self.seen)
        size = (self.chance.randint(1, self.largest), self.chance.randint(1, self.largest))
        tiles = torch.randn(tile_count(size, geometry), 3, geometry.tile, geometry.tile, generator=self.generator)
        self.seen.append(Picture(tiles, size, self.chance.randbytes(32)))
        return self.seen[-1]

    def text(self, count: int) -> list[int]:
        return torch.randint(10, min(790, self.model.vocabulary), (count,), generator=self.generator).tolist()

    def position(self, slot: int) -> int:
        """Tokens the slot holds: its prompt and all of its reply but the newest."""
        return self.lengths[slot] + len(self.replies[slot]) - 1

    def join(self, slots: Sequence[int]) -> None:
        """Prefill a random prompt in each slot, in two parts where the backend can."""
        self.requests += len(slots)
        prompts = [self.prompt() for _ in slots]
        stops = [len(prompt.tokens) for prompt in prompts]
        cuts = [0] * len(prompts)
        if self.resumes and self.chance.random() < 0.5:
            cuts = [prompt.cut(self.chance) if len(prompt.tokens) > 1 else 0 for prompt in prompts]
            first = [index for index, cut in enumerate(cuts) if cut]
            if first:
                self.prefill(
                    [prompts[i] for i in first], [slots[i] for i in first], [0] * len(first), [cuts[i] for i in first]
                )
        got = self.prefill(prompts, slots, cuts, stops)
        wanted = self.oracle.prefill(self.batch(prompts, slots, [0] * len(prompts), stops))
        self.oracle.concatenate(wanted.prefix, [Placement(row, slot) for row, slot in enumerate(slots)])
        self.compare(got, wanted.logits.float())
        for slot, prompt, row in zip(slots, prompts, wanted.logits, strict=True):
            self.lengths[slot] = len(prompt.tokens)
            self.replies[slot] = [int(row.argmax())]

    def prefill(
        self, prompts: Sequence[Prompt], slots: Sequence[int], starts: Sequence[int], stops: Sequence[int]
    ) -> torch.Tensor:
        """Give the backend parts of prompts: all together, or in the groups there are shapes for."""
        logits: dict[int, torch.Tensor] = {}
        for group in self.groups(starts):
            chosen = [[values[index] for index in group] for values in (slots, starts, stops)]
            batch = self.batch([prompts[index] for index in group], *chosen)
            output = self.backend.prefill(batch if self.shapes is None else padded(batch, self.shapes))
            self.backend.concatenate(output.prefix, [Placement(row, slot) for row, slot in enumerate(chosen[0])])
            logits |= {index: output.logits[row].float().clone() for row, index in enumerate(group)}
        return torch.stack([logits[index] for index in range(len(prompts))])

    def groups(self, starts: Sequence[int]) -> list[list[int]]:
        """Return which rows are computed together; of static shapes, those for resumed prompts have one row."""
        if self.shapes is None:
            return [list(range(len(starts)))]
        whole = [index for index, start in enumerate(starts) if start == 0]
        return [*([whole] if whole else []), *([index] for index, start in enumerate(starts) if start)]

    def batch(
        self, prompts: Sequence[Prompt], slots: Sequence[int], starts: Sequence[int], stops: Sequence[int]
    ) -> PrefillBatch:
        parts = [prompt.part(start, stop) for prompt, start, stop in zip(prompts, starts, stops, strict=True)]
        longest = max(len(tokens) for tokens, _ in parts)
        filled = [F.pad(tokens, (0, longest - len(tokens)), value=PADDING) for tokens, _ in parts]
        return PrefillBatch(
            shape=PrefillShape(len(parts), longest, max(starts)),
            tokens=torch.stack(filled),
            lengths=torch.tensor([len(tokens) for tokens, _ in parts]),
            offsets=torch.tensor(starts),
            slots=torch.tensor(slots),
            images=tuple(images for _, images in parts),
        )

    def decode(self, slots: Sequence[int]) -> None:
        """Advance these slots; the others hold still."""
        step = [
            (self.replies[slot][-1], self.position(slot), True) if slot in slots else IDLE
            for slot in range(self.limits.rows)
        ]
        tokens, positions, active = (torch.tensor(values) for values in zip(*step, strict=True))
        batch = DecodeBatch(DecodeShape(self.limits.rows, self.limits.context), tokens, positions, active)
        wanted = self.oracle.decode(batch).logits.float()[sorted(slots)]
        got = self.backend.decode(batch if self.shapes is None else fitted(batch, self.shapes)).logits.float()
        self.compare(got[sorted(slots)], wanted)
        for slot, row in zip(sorted(slots), wanted, strict=True):
            self.replies[slot].append(int(row.argmax()))

    def leave(self, slot: int) -> None:
        del self.replies[slot], self.lengths[slot]
        for backend in (self.backend, self.oracle):
            if hasattr(backend, "release"):
                backend.release([slot])

    def compare(self, got: torch.Tensor, wanted: torch.Tensor) -> None:
        assert torch.isfinite(got).all(), f"no number after {len(self.differences)} steps"
        self.differences.append(float((got - wanted).abs().max() / wanted.std()))
        assert torch.equal(got.argmax(-1), wanted.argmax(-1)), f"another token after {len(self.differences)} steps"


def padded(batch: PrefillBatch, shapes: PlannedShapes) -> PrefillBatch:
    """Return a batch of a planned shape: rows padded on the right, and rows of nothing but padding."""
    shape = shapes.prefill_for(batch.shape.rows, batch.shape.length, batch.shape.cached)
    more = shape.rows - batch.shape.rows
    return PrefillBatch(
        shape=shape,
        tokens=F.pad(batch.tokens, (0, shape.length - batch.shape.length, 0, more), value=PADDING),
        lengths=F.pad(batch.lengths, (0, more)),
        offsets=F.pad(batch.offsets, (0, more)),
        slots=F.pad(batch.slots, (0, more), value=-1),
        images=(*batch.images, *(None,) * more),
    )


def fitted(batch: DecodeBatch, shapes: PlannedShapes) -> DecodeBatch:
    """Return a batch of a planned shape: the slots up to the last that is active."""
    rows = 1 + int(batch.active.nonzero().max())
    shape = shapes.decode_for(rows, 1 + int(batch.positions.max()))
    more = shape.rows - len(batch.tokens)  # negative where slots are left out
    return DecodeBatch(shape, *(F.pad(values, (0, more)) for values in (batch.tokens, batch.positions, batch.active)))
