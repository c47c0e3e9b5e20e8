"""Choosing the next token of many rows at once.

`prepare` is host work, done when a row changes; `choose` is device work, done each step without a loop over rows.
Only the chosen ids and their log-probabilities come back to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runtime.runtime import SamplingParameters
from runtime.sampling.filters import keep_top_k, keep_top_p
from runtime.sampling.noise import uniform, wrapped

COLDEST: Final = 1e-5
"""A lower temperature is as good as greedy, and would overflow the scores."""
NOT_A_NUMBER: Final = -1
"""The id chosen for a row whose logits are not numbers."""


@dataclass(frozen=True, slots=True)
class Choices:
    """One chosen token per row."""

    ids: list[int]
    """`NOT_A_NUMBER` where the row's logits cannot be used."""
    logprobs: list[float]
    """Under the distribution the token was drawn from, after temperature and filters, as TGI reports it."""


@dataclass(frozen=True, slots=True)
class SamplingMix:
    """The parameters of the rows of one batch, as tensors on the logits' device."""

    draws: torch.Tensor  # bool [rows]; False for greedy rows
    temperature: torch.Tensor  # float32 [rows]
    top_k: torch.Tensor  # int64 [rows]
    top_p: torch.Tensor  # float32 [rows]
    seeds: torch.Tensor  # int64 [rows], cpu
    any_draws: bool
    any_top_k: bool
    any_top_p: bool


def prepare(rows: Sequence[tuple[SamplingParameters, int]], device: torch.device) -> SamplingMix:
    """Lay out the parameters and the seed of each row of a batch."""
    parameters = [row[0] for row in rows]
    return SamplingMix(
        draws=torch.tensor([row.draws for row in parameters], device=device),
        temperature=torch.tensor([max(row.temperature, COLDEST) for row in parameters], device=device),
        top_k=torch.tensor([row.top_k for row in parameters], device=device),
        top_p=torch.tensor([row.top_p for row in parameters], device=device),
        seeds=torch.tensor([wrapped(seed) for _, seed in rows]),
        any_draws=any(row.draws for row in parameters),
        any_top_k=any(row.top_k > 0 for row in parameters),
        any_top_p=any(row.top_p < 1 for row in parameters),
    )


def choose(logits: torch.Tensor, mix: SamplingMix, steps: Sequence[int]) -> Choices:
    """Choose one token per row.

    `logits` float [rows, vocabulary], any device; `steps` counts the tokens each row has generated before.
    Order as in TGI: temperature, top-k, top-p, choice.
    """
    scores = logits.float()
    usable = scores.amax(dim=-1).isfinite()  # amax hands a NaN on
    if mix.any_draws:
        scores = scores / mix.temperature[:, None]
    if mix.any_top_k:
        scores = keep_top_k(scores, mix.top_k)
    if mix.any_top_p:
        scores = keep_top_p(scores, mix.top_p)
    logprobs = scores.log_softmax(dim=-1)
    ids = logprobs.argmax(dim=-1)
    if mix.any_draws:
        noise = uniform(mix.seeds, torch.tensor(steps)).to(scores.device)
        ids = torch.where(mix.draws, _drawn(logprobs.exp(), noise), ids)
    chosen = logprobs.gather(-1, ids[:, None]).squeeze(-1)
    ids = torch.where(usable, ids, NOT_A_NUMBER)
    return Choices(ids.tolist(), chosen.tolist())


def _drawn(probabilities: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Invert the cumulative distribution, in vocabulary order, at `noise` (float32 [rows] in [0, 1)).

    The first id whose cumulative probability exceeds the target has a probability above 0, so a dropped
    candidate is never drawn.
    """
    cumulative = probabilities.cumsum(dim=-1)
    target = noise * cumulative[:, -1]
    return (cumulative <= target[:, None]).sum(dim=-1).clamp(max=probabilities.shape[-1] - 1)
