"""Choosing the next token of many rows at once.

Only the chosen ids, their log-probabilities and the candidates asked for come back to the host, in one copy. Where a
row keeps more candidates than were looked at, that copy says so, and a second brings what more of the vocabulary gave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from runtime.sampling.bitmask import allowed
from runtime.sampling.choices import UNSETTLED, Choices
from runtime.sampling.group import Group
from runtime.sampling.history import PromptCounts
from runtime.sampling.mix import SamplingMix, prepare
from runtime.sampling.noise import uniform
from runtime.sampling.part import Part, SampledRow
from runtime.sampling.watermark import GreenLists


class Sampler:
    """Chooses for one batch after another; lays parameters out anew only when the rows change.

    Order as in TGI: watermark, repetition, frequency and presence, grammar, temperature, top-k, top-p, typical-p,
    choice.
    """

    def __init__(self, green_lists: GreenLists | None = None) -> None:
        self._green_lists = green_lists or GreenLists()
        self._prompts = PromptCounts()
        self._mix: SamplingMix | None = None

    def choose(self, rows: Sequence[SampledRow], logits: torch.Tensor) -> Choices:
        """Choose one token per row; the caller appends it to the row's `generated` before it chooses again.

        `logits` float [rows, vocabulary], any device.
        """
        mix = self._mix_of(rows, logits)
        scores = self._steered(logits.float(), mix)
        choices = _chosen(scores, mix)
        choices.take_known([row.known for row in rows])
        if mix.history is not None:
            mix.history.add(choices.ids)
        return choices

    def _mix_of(self, rows: Sequence[SampledRow], logits: torch.Tensor) -> SamplingMix:
        if self._mix is None or self._mix.rows != tuple(rows):
            self._mix = prepare(rows, logits.shape[-1], logits.device, self._prompts)
        return self._mix

    def _steered(self, scores: torch.Tensor, mix: SamplingMix) -> torch.Tensor:
        """Apply what depends on the tokens before; rows that do not ask for it keep their scores to the bit."""
        if mix.watermarked is not None:
            newest = [(row.generated or row.prompt)[-1] for row in mix.watermarked.rows]
            bonus = self._green_lists.bonus(newest, scores.shape[-1], scores.device)
            scores = scores.index_add(0, mix.watermarked.index, bonus)
        if mix.history is not None:
            scores = mix.history.penalised(scores)
        if mix.constrained is not None:
            scores = _masked(scores, mix.constrained)
        return scores


def _masked(scores: torch.Tensor, constrained: Part) -> torch.Tensor:
    masks = [row.matcher.mask() for row in constrained.rows if row.matcher is not None]
    permitted = allowed(masks, scores.shape[-1], scores.device)
    return constrained.put(scores, torch.where(permitted, constrained.of(scores), -torch.inf))


def _chosen(scores: torch.Tensor, mix: SamplingMix) -> Choices:
    """Choose, looking at more of the vocabulary for as long as some row needs it, which is rare."""
    usable = scores.amax(dim=-1).abs() < torch.inf  # amax hands a NaN on
    noise = _noise(mix, scores.device)
    choices = Choices.unsettled(len(mix.rows))
    groups = mix.groups
    while groups:
        choices.read(groups, [group.pick(scores, noise) for group in groups], usable)
        groups = _wider(groups, choices, mix, scores.shape[-1])
    return choices


def _noise(mix: SamplingMix, device: torch.device) -> torch.Tensor | None:
    if mix.seeds is None:
        return None
    steps = np.array([len(row.generated) for row in mix.rows], np.uint64)
    return torch.from_numpy(uniform(mix.seeds, steps)).to(device)


def _wider(groups: Sequence[Group], choices: Choices, mix: SamplingMix, vocabulary: int) -> tuple[Group, ...]:
    """Return groups of the rows that are not settled."""
    left = [(group, [place for place in group.part.places if choices.ids[place] == UNSETTLED]) for group in groups]
    return tuple(group.wider(places, mix.rows, vocabulary) for group, places in left if places)
