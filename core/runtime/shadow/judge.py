"""The shadow itself: computes a row again, teacher-forced by what was decoded, and says how far the backend is off.

What rounding explains is measured as by `runtime verify` (`runtime.verify.verdict`), once and with prompts of its own:
the shadow is loaded in the type the backend computes in, computes them, and is dropped before it is loaded for good.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from runtime.backend import DecodeBatch, DecodeShape, Images, ModelSpec, Placement, PrefillBatch, PrefillShape
from runtime.plugins import Hooks
from runtime.verify.measures import Measure, Place
from runtime.verify.prompts import PromptMaker
from runtime.verify.verdict import MULTIPLE, Bar
from runtime.verify.verification import REFERENCE, WIDER

WORDS: Final = 64
"""Of each prompt that the noise is measured with."""
REPLY: Final = 8
"""Tokens after it."""

Load = Callable[[str], Hooks]
"""Loads the shadow to compute in a type: one row, of whole prompts."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a prompt, in the types that pickle without shared memory."""

    tiles: npt.NDArray[np.float32]
    counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One step of one row."""

    tokens: tuple[int, ...]
    """A prompt, or the token to append to the row of the question before."""
    logits: npt.NDArray[np.float32]
    """The backend's, after them."""
    dtype: str
    """What the backend computes in."""
    begins: bool
    """Whether it is a prompt."""
    pictures: Pictures | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Another token than the shadow's."""

    position: int
    """Tokens before it."""
    wanted: int
    got: int
    margin: float
    """By how much the shadow's scores prefer its own."""
    allowed: float
    """Margin up to which rounding explains it."""

    @property
    def is_noise(self) -> bool:
        return self.margin <= self.allowed


@dataclass(frozen=True, slots=True)
class Judgement:
    """How far one step of the backend is off."""

    kl: float
    """KL divergence, nats."""
    error: float
    """Of the scores, in multiples of the noise, of which `MULTIPLE` are allowed."""
    difference: Difference | None


class Judge:
    """One loaded shadow; the first question loads it."""

    def __init__(self, model: ModelSpec, longest: int, load: Load) -> None:
        """`longest` is the most tokens of a prompt."""
        self._model = model
        self._longest = longest
        self._load = load
        self._loaded: _Loaded | None = None

    def judged(self, question: Question) -> Judgement:
        """Compute the step of a question and compare; lets through what the shadow raises."""
        if self._loaded is None:
            self._loaded = self._measured(question.dtype)
        shadow, place = self._loaded.row, Place(0, None, None)
        if question.begins:
            wanted = shadow.begin(question.tokens, _images(question.pictures))
        else:
            wanted = shadow.append(question.tokens[0])
        measure = Measure()
        measure.add_scores(torch.from_numpy(question.logits)[None], wanted[None], [place])
        return self._loaded.judgement(measure)

    def _measured(self, dtype: str) -> _Loaded:
        """Load the shadow, and know its noise."""
        rough = self._scores(_Row(self._load(WIDER.get(dtype, dtype))))
        gc.collect()  # one model at a time
        row = _Row(self._load(REFERENCE))
        noise = Measure()
        noise.add_scores(rough, self._scores(row), [Place(0, None, None)] * len(rough))
        return _Loaded(row, noise, Bar.of(dtype, REFERENCE))

    def _scores(self, row: _Row) -> torch.Tensor:
        """Return the scores of every step of the prompts for noise: a text, and a picture where it fits."""
        maker = PromptMaker(self._model, self._longest - REPLY, "shadow")
        tile = maker.tile
        scores = []
        for prompt in (maker.text(WORDS), maker.pictured_or_text(WORDS, (tile, tile))):
            scores.append(row.begin(prompt.tokens, prompt.images))
            scores += [row.append(token) for token in maker.text(REPLY).tokens]
        return torch.stack(scores)


@dataclass(slots=True)
class _Row:
    """The one row of a shadow."""

    hooks: Hooks
    length: int = field(default=0, init=False)

    def begin(self, tokens: tuple[int, ...], images: Images | None) -> torch.Tensor:
        """Compute a prompt; return the scores after it, [vocabulary]."""
        if self.length:
            self.hooks.release([0])
        self.length = len(tokens)
        zero = torch.zeros(1, dtype=torch.int64)
        batch = PrefillBatch(
            shape=PrefillShape(1, len(tokens)),
            tokens=torch.tensor([tokens]),
            lengths=torch.tensor([len(tokens)]),
            offsets=zero,
            slots=zero,
            images=(images,),
        )
        output = self.hooks.prefill(batch)
        self.hooks.concatenate(output.prefix, [Placement(0, 0)])
        return output.logits[0].detach().to("cpu", copy=True)

    def append(self, token: int) -> torch.Tensor:
        """Append a token; return the scores after it."""
        batch = DecodeBatch(
            shape=DecodeShape(1, self.hooks.limits.context),
            tokens=torch.tensor([token]),
            positions=torch.tensor([self.length]),
            active=torch.tensor([True]),
        )
        self.length += 1
        return self.hooks.decode(batch).logits[0].detach().to("cpu", copy=True)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The shadow and what it loses in the type of the backend."""

    row: _Row
    noise: Measure
    bar: Bar

    def judgement(self, measure: Measure) -> Judgement:
        noise, bar = self.noise, self.bar
        difference = None
        if measure.flips:
            (flip,) = measure.flips
            allowed = 2 * bar.multiple * max(noise.most, bar.roundoff * noise.height)
            difference = Difference(self.row.length, flip.wanted, flip.got, flip.margin, allowed)
        allowed_error = bar.multiple * max(noise.worst, bar.roundoff)
        return Judgement(measure.kl[0], MULTIPLE * measure.worst / allowed_error, difference)


def _images(pictures: Pictures | None) -> Images | None:
    if pictures is None:
        return None
    return Images(torch.from_numpy(pictures.tiles), pictures.counts, pictures.sizes, pictures.digests)
