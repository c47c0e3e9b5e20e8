"""An arithmetic backend that continues what its slots hold, and remembers all that any slot ever held.

Like a real one it writes to a slot while it computes a prefill, keeps what is there after a release, and leaves rubbish
in the slots of a step that fails. Each picture it gets must be complete: its placeholders follow each other, as many
as `placeholders` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch
from runtime.backend import Capacity, DecodeBatch, DecodeOutput, Images, Limits, PrefillBatch, PrefillOutput
from runtime.hookspecs import hookimpl
from runtime.runtime import GenerateRequest, TokensPart
from support.arithmetic import NOT_A_NUMBER, ArithmeticBackend, SumRow
from support.serving import MODEL, TokenPrompt

LIMITS: Final = Limits(rows=3, context=300, prefill_rows=2, prefill_tokens=280)
"""Room for beginnings that are worth keeping."""

IMAGE: Final = MODEL.image_token_id
Cells = tuple[tuple[int, bytes], ...]
"""What a slot holds: each token, and for a placeholder the digest of its picture."""


@dataclass(frozen=True)
class Shown:
    """A picture without pixels."""

    size: tuple[int, int]
    digest: bytes


def placeholders(size: tuple[int, int]) -> int:
    """How many tokens a picture takes: as many for one that lies on its side."""
    return 10 + (size[0] + size[1]) // 10


def prompt_of(ids: Sequence[int], shown: Mapping[int, Shown]) -> TokenPrompt:
    """Return the prompt in which each id of `shown` became the placeholders of its picture."""
    tokens: list[int] = []
    pictures: list[Shown] = []
    places: list[slice] = []
    for id in ids:
        if id not in shown:
            tokens.append(id)
            continue
        assert IMAGE is not None
        pictures.append(shown[id])
        places.append(slice(len(tokens), len(tokens) + placeholders(shown[id].size)))
        tokens += [IMAGE] * placeholders(shown[id].size)
    if not pictures:
        return TokenPrompt(tuple(tokens))
    images = Images(
        tiles=torch.zeros(len(pictures), 3, 2, 2),
        counts=(1,) * len(pictures),
        sizes=tuple(picture.size for picture in pictures),
        digests=tuple(picture.digest for picture in pictures),
    )
    return TokenPrompt(tuple(tokens), images, (), tuple(places))


def cells_of(prompt: TokenPrompt) -> Cells:
    """What a slot holds that holds the whole prompt."""
    return _cells(prompt.tokens, prompt.images)


class Preparation:
    """Prepares prompts of ids, some of which show pictures."""

    def __init__(self, shown: Mapping[int, Shown]) -> None:
        self.shown = shown

    def __call__(self, request: GenerateRequest) -> TokenPrompt:
        (part,) = request.parts
        assert isinstance(part, TokensPart)
        return prompt_of(part.ids, self.shown)


class ResumingBackend(ArithmeticBackend):
    """Honours offsets."""

    def __init__(self, vocabulary: int = MODEL.vocabulary, limits: Limits = LIMITS) -> None:
        super().__init__(vocabulary, limits)
        self.parts: list[tuple[int, int]] = []
        """(offset, tokens) of every row of every prefill."""
        self.contents: list[Cells] = []
        """What a slot held after each of them."""
        self._held: dict[int, Cells] = {}

    @hookimpl
    def capacity(self) -> Capacity:
        return Capacity(self.limits.rows, self.limits.context, resumes=True)

    @hookimpl
    def prefill(self, batch: PrefillBatch) -> PrefillOutput:
        try:
            return super().prefill(batch)
        except RuntimeError:
            self._spoil(batch.slots.tolist())
            raise

    @hookimpl
    def decode(self, batch: DecodeBatch) -> DecodeOutput:
        slots = batch.active.nonzero().flatten().tolist()
        try:
            output = super().decode(batch)
        except RuntimeError:
            self._spoil(slots)
            raise
        for slot in slots:
            self._held[slot] = (*self._held[slot], (int(batch.tokens[slot]), b""))
        return output

    def _row(self, batch: PrefillBatch, index: int) -> SumRow:
        slot, offset, length = (int(values[index]) for values in (batch.slots, batch.offsets, batch.lengths))
        if length == 0:
            return SumRow(0, 0, ())
        before = self._held.get(slot, ())
        assert offset <= len(before), f"slot {slot} holds {len(before)} tokens, not {offset}"
        tokens = tuple(batch.tokens[index, :length].tolist())
        cells = self._held[slot] = (*before[:offset], *_cells(tokens, batch.images[index]))
        self.parts.append((offset, length))
        self.contents.append(cells)
        if NOT_A_NUMBER in tokens:
            self._spoil([slot])  # numbers that are none stay in the slot
        return SumRow(sum(token for token, _ in cells), offset + length, tuple(token for token, _ in cells))

    def _spoil(self, slots: Sequence[int]) -> None:
        for slot in slots:
            self._held[slot] = tuple((token + 1, digest) for token, digest in self._held.get(slot, ()))


def _cells(tokens: Sequence[int], images: Images | None) -> Cells:
    sizes, digests = ((), ()) if images is None else (images.sizes, images.digests)
    pictures = iter(zip(sizes, digests, strict=True))
    cells: list[tuple[int, bytes]] = []
    for is_picture, run in groupby(tokens, lambda token: token == IMAGE):
        written = list(run)
        digest = b""
        if is_picture:
            size, digest = next(pictures)
            assert len(written) == placeholders(size), "a picture was cut"
        cells += [(token, digest) for token in written]
    assert next(pictures, None) is None, "a picture without placeholders"
    return tuple(cells)
