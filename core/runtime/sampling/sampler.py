"""Choosing the next token of many rows at once.

Only the chosen ids, their log-probabilities and the candidates asked for come back to the host, in one copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runtime.sampling.bitmask import allowed
from runtime.sampling.candidates import best
from runtime.sampling.mix import SamplingMix, prepare
from runtime.sampling.noise import uniform
from runtime.sampling.part import Part, SampledRow
from runtime.sampling.watermark import GreenLists

NOT_A_NUMBER: Final = -1
"""The id chosen for a row whose logits are not numbers."""

Scored = tuple[int, float]
"""An id and its log-probability."""


@dataclass(frozen=True, slots=True)
class Choices:
    """One chosen token per row."""

    ids: list[int]
    """`NOT_A_NUMBER` where the row's logits cannot be used."""
    logprobs: list[float]
    """Under the distribution the token was drawn from, after temperature and filters, as TGI reports it."""
    top: list[tuple[Scored, ...]]
    """The candidates a row asked for, best first, ties in the order of ids, by the same distribution; those of
    probability 0, which TGI tells as well, are left out."""


class Sampler:
    """Chooses for one batch after another; lays parameters out anew only when the rows change.

    Order as in TGI: watermark, repetition, frequency and presence, grammar, temperature, top-k, top-p, typical-p,
    choice.
    """

    def __init__(self, green_lists: GreenLists | None = None) -> None:
        self._green_lists = green_lists or GreenLists()
        self._mix: SamplingMix | None = None

    def choose(self, rows: Sequence[SampledRow], logits: torch.Tensor) -> Choices:
        """Choose one token per row; the caller appends it to the row's `generated` before it chooses again.

        `logits` float [rows, vocabulary], any device.
        """
        mix = self._mix_of(rows, logits)
        scores = self._steered(logits.float(), mix)
        usable = scores.amax(dim=-1).isfinite()  # amax hands a NaN on
        logprobs = _narrowed(scores, mix).log_softmax(dim=-1)
        ids = _chosen(logprobs, mix)
        if mix.history is not None:
            mix.history.add(ids)
        return _on_host(ids, usable, logprobs, mix)

    def _mix_of(self, rows: Sequence[SampledRow], logits: torch.Tensor) -> SamplingMix:
        if self._mix is None or self._mix.rows != tuple(rows):
            self._mix = prepare(rows, logits.shape[-1], logits.device)
        return self._mix

    def _steered(self, scores: torch.Tensor, mix: SamplingMix) -> torch.Tensor:
        """Apply what depends on the tokens before; rows that do not ask for it keep their scores to the bit."""
        vocabulary, device = scores.shape[-1], scores.device
        if mix.watermarked is not None:
            newest = [(row.generated or row.prompt)[-1] for row in mix.watermarked.rows]
            bonus = self._green_lists.bonus(newest, vocabulary, device)
            scores = scores.index_add(0, mix.watermarked.index, bonus)
        if mix.history is not None:
            scores = mix.history.penalised(scores)
        if mix.constrained is not None:
            scores = _masked(scores, mix.constrained)
        return scores


def _masked(scores: torch.Tensor, constrained: Part) -> torch.Tensor:
    masks = [row.matcher.mask() for row in constrained.rows if row.matcher is not None]
    permitted = allowed(masks, scores.shape[-1], scores.device)
    own = scores.index_select(0, constrained.index).masked_fill(~permitted, -torch.inf)
    return scores.index_copy(0, constrained.index, own)


def _narrowed(scores: torch.Tensor, mix: SamplingMix) -> torch.Tensor:
    if mix.any_draws:
        scores = scores / mix.temperature[:, None]
    for narrowing in mix.narrowings:
        scores = narrowing.narrowed(scores)
    return scores


def _chosen(logprobs: torch.Tensor, mix: SamplingMix) -> torch.Tensor:
    """Choose the best id of greedy rows, and draw that of the others."""
    ids = logprobs.argmax(dim=-1)
    if not mix.any_draws:
        return ids
    steps = torch.tensor([len(row.generated) for row in mix.rows])
    noise = uniform(mix.seeds, steps).to(logprobs.device)
    return torch.where(mix.draws, _drawn(logprobs.exp(), noise), ids)


def _drawn(probabilities: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distribution, in vocabulary order, at `noise` (float32 [rows] in [0, 1)).

    The first id whose cumulative probability exceeds the target has a probability above 0, so a dropped
    candidate is never drawn.
    """
    cumulative = probabilities.cumsum(dim=-1)
    target = noise * cumulative[:, -1]
    return (cumulative <= target[:, None]).sum(dim=-1).clamp(max=probabilities.shape[-1] - 1)


def _on_host(ids: torch.Tensor, usable: torch.Tensor, logprobs: torch.Tensor, mix: SamplingMix) -> Choices:
    """Bring the results over in one copy; as floats, in which ids are exact up to 2**24."""
    count = len(mix.rows)
    chosen = logprobs.gather(-1, ids[:, None]).squeeze(-1)
    results = [torch.where(usable, ids, NOT_A_NUMBER).float(), chosen]
    if mix.told is not None:
        results += _best(logprobs, mix.told)
    numbers: list[float] = torch.cat(results).tolist()
    return Choices([int(id) for id in numbers[:count]], numbers[count : 2 * count], _top(numbers[2 * count :], mix))


def _best(logprobs: torch.Tensor, told: Part) -> list[torch.Tensor]:
    most = min(max(row.top_n for row in told.rows), logprobs.shape[-1])
    ids, values = best(logprobs.index_select(0, told.index), most)
    return [ids.float().flatten(), values.flatten()]


def _top(numbers: Sequence[float], mix: SamplingMix) -> list[tuple[Scored, ...]]:
    """Deal the ids, then as many log-probabilities, to the rows that asked for them."""
    if mix.told is None:
        return [()] * len(mix.rows)
    half = len(numbers) // 2
    width = half // len(mix.told.rows)
    pairs = [(int(id), logprob) for id, logprob in zip(numbers[:half], numbers[half:], strict=True)]
    dealt = iter([pairs[start : start + width] for start in range(0, half, width)])
    asked = [next(dealt)[: row.top_n] if row.top_n > 0 else [] for row in mix.rows]
    return [tuple(pair for pair in row if math.isfinite(pair[1])) for row in asked]
