"""What is measured of the backend: decode steps, a picture's prefill, memory, how long the card idles, and arrivals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from runtime.backend import (
    DecodeBatch,
    DecodeShape,
    Images,
    Limits,
    ModelSpec,
    PrefillBatch,
    PrefillShape,
    ShapePlan,
    VisionShape,
    WarmupProgress,
)
from runtime.geometry import feature_count, tile_count
from runtime.shapes.forecast import forecast
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.cuda.card import Card
from benchmarks.cuda.random_weights import RandomWeights

WARM = 5
"""Steps that are not timed."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    context: int
    """Tokens before the decode steps."""
    rows: tuple[int, ...]
    """Of the decode steps."""
    steps: int
    text: int
    """Tokens behind the picture."""
    requests: int
    """That arrive one after the other."""
    prompt: int
    """Tokens of theirs."""
    reply: int
    """Tokens of each answer."""
    gap: float
    """Seconds between arrivals."""

    @property
    def bucket(self) -> int:
        return self.context + 128

    @property
    def waves(self) -> tuple[int, ...]:
        """Rows of the steps of requests that arrive: powers of two."""
        return tuple(2**power for power in range((self.requests - 1).bit_length() + 1))


FULL = Sizes(context=3000, rows=(1, 16, 64), steps=100, text=64, requests=16, prompt=512, reply=128, gap=0.05)
"""What the bars are about."""
SMOKE = Sizes(context=24, rows=(1, 2), steps=8, text=3, requests=3, prompt=6, reply=4, gap=0.0)
"""To see that the benchmark runs."""


class Bench:
    """One loaded and warmed backend."""

    def __init__(self, card: Card, model: ModelSpec, sizes: Sizes) -> None:
        assert model.images is not None
        self.card, self.model, self.sizes = card, model, sizes
        side = 2 * model.images.tile
        self._size = (side, side)
        self.tiles = tile_count(self._size, model.images)
        self.picture_tokens = feature_count(self._size, model.images)
        self.prompt_tokens = self.picture_tokens + sizes.text
        rows, context = max(*sizes.rows, *sizes.waves), max(sizes.bucket, self.prompt_tokens)
        self.limits = Limits(rows=rows, context=context, prefill_rows=1, prefill_tokens=self.prompt_tokens)
        arriving = min(context, sizes.prompt + sizes.reply)
        self.plan = ShapePlan(
            prefill=(PrefillShape(1, self.prompt_tokens), PrefillShape(1, sizes.prompt)),
            decode=(
                *(DecodeShape(count, sizes.bucket) for count in {*sizes.rows, rows}),
                *(DecodeShape(count, arriving) for count in sizes.waves),
            ),
            vision=(VisionShape(self.tiles),),
        )
        self._arriving = arriving
        before = card.free()
        self.backend, self.clock = card.backend(model, self.limits)
        loaded = card.free()
        self.backend.warmup(self.plan, _ignore)
        self._taken = before - loaded, loaded - card.free()

    def memory(self) -> dict[str, float]:
        """Bytes, and what the forecast had said; what the driver would tell is 0 on the CPU."""
        foreseen = forecast(self.model, self.limits, self.plan)
        loaded, graphs = self._taken
        return {
            "weights": RandomWeights.made,
            "weights_forecast": foreseen.weights,
            "cache": loaded - RandomWeights.made if self.card.is_card else 0,
            "cache_forecast": foreseen.kv,
            "graphs": graphs,
            "graphs_forecast": foreseen.activations,
        }

    def decode(self, rows: int) -> float:
        """Seconds of a step of so many rows, with a greedy choice whose ids are read, as in service."""
        steps = self._steps(rows)
        for _ in range(WARM):
            next(steps)
        self.card.synchronise()
        started = time.perf_counter()
        for _ in range(self.sizes.steps):
            next(steps)
        return (time.perf_counter() - started) / self.sizes.steps

    def idle(self, rows: int) -> float | None:
        """Share of the time of steps in which the card computes nothing, by the profiler; None on the CPU."""
        if not self.card.is_card:
            return None
        steps = self._steps(rows)
        for _ in range(WARM):
            next(steps)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            for _ in range(20):
                next(steps)
        ranges = sorted(
            (event.time_range.start, event.time_range.end)
            for event in found.events() or []
            if event.device_type is DeviceType.CUDA
        )
        busy, reached = 0.0, ranges[0][0]
        for start, end in ranges:
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return 1 - busy / (reached - ranges[0][0])

    def prefill(self) -> dict[str, float]:
        """Seconds to the first token of a new picture and a question, then of each stage, one waiting for the other."""
        whole = min(self._answered() for _ in range(5))
        self.clock.seconds = {}
        apart = self._answered()
        stages, self.clock.seconds = self.clock.seconds, None
        names = {"VisionShape": "vision tower", "LayingShape": "laying the picture", "PrefillShape": "decoder"}
        named = {names[kind]: seconds for kind, seconds in stages.items()}
        return {"first token": whole, **named, "host and choice": apart - sum(named.values())}

    def arrivals(self) -> float:
        """Tokens per second of requests that arrive one after the other, their prompts computed at once."""
        sizes = self.sizes
        started = time.perf_counter()
        left = dict.fromkeys(range(sizes.requests), sizes.reply)
        waiting, tokens = list(left), torch.zeros(sizes.requests, dtype=torch.int64)
        while left:
            now = time.perf_counter() - started
            if waiting and now >= waiting[0] * sizes.gap:
                slot = waiting.pop(0)
                logits = self.backend.prefill(self._text(slot)).logits
                tokens[slot], left[slot] = int(logits.argmax()), left[slot] - 1
                continue
            active = [slot for slot in left if slot not in waiting]
            if not active:
                time.sleep(waiting[0] * sizes.gap - now)
                continue
            rows = next(count for count in sizes.waves if count > max(active))
            is_active = torch.tensor([slot in active for slot in range(rows)])
            positions = torch.tensor([sizes.prompt + sizes.reply - left.get(slot, 1) - 1 for slot in range(rows)])
            step = DecodeBatch(
                DecodeShape(rows, self._arriving), _first(tokens, rows), positions.where(is_active, 0), is_active
            )
            ids = self.backend.decode(step).logits.argmax(-1).cpu()
            for slot in active:
                tokens[slot], left[slot] = ids[slot], left[slot] - 1
                if not left[slot]:
                    del left[slot]
        return sizes.requests * sizes.reply / (time.perf_counter() - started)

    def _steps(self, rows: int) -> Iterator[torch.Tensor]:
        """Yield the ids of one step after the other; what the slots hold does not change how long they take."""
        tokens, active = torch.ones(rows, dtype=torch.int64), torch.ones(rows, dtype=torch.bool)
        shape = DecodeShape(rows, self.sizes.bucket)
        position = self.sizes.context
        while True:
            logits = self.backend.decode(DecodeBatch(shape, tokens, torch.full((rows,), position), active)).logits
            tokens = logits.argmax(-1).cpu()
            position = min(position + 1, self.sizes.bucket - 1)
            yield tokens

    def _answered(self) -> float:
        """Seconds from a batch on the host to the first token there; the picture was never seen."""
        batch = self._picture()
        self.card.synchronise()
        started = time.perf_counter()
        self.backend.prefill(batch).logits.argmax(-1).cpu()
        return time.perf_counter() - started

    def _picture(self) -> PrefillBatch:
        assert self.model.images is not None
        assert self.model.image_token_id is not None
        side = self.model.images.tile
        images = Images(torch.randn(self.tiles, 3, side, side), (self.tiles,), (self._size,), (bytes(32),))
        tokens = torch.ones(1, self.prompt_tokens, dtype=torch.int64)
        tokens[0, : self.picture_tokens] = self.model.image_token_id
        return _prompt(tokens, 0, images)

    def _text(self, slot: int) -> PrefillBatch:
        return _prompt(torch.ones(1, self.sizes.prompt, dtype=torch.int64), slot, None)


def _prompt(tokens: torch.Tensor, slot: int, images: Images | None) -> PrefillBatch:
    length = tokens.shape[1]
    return PrefillBatch(
        shape=PrefillShape(1, length),
        tokens=tokens,
        lengths=torch.tensor([length]),
        offsets=torch.zeros(1, dtype=torch.int64),
        slots=torch.tensor([slot]),
        images=(images,),
    )


def _ignore(progress: WarmupProgress) -> None:
    """Nobody watches."""


def _first(tokens: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the tokens of the first slots, of which there may be fewer than rows."""
    return torch.nn.functional.pad(tokens, (0, max(0, rows - len(tokens))))[:rows]
