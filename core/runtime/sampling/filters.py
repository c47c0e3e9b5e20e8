"""Dropping candidates of every row at once, on the logits' device; dropped ones get a score of -inf."""

from __future__ import annotations

from typing import Final

import torch

from runtime.sampling.blocks import blocks_of

LEAST: Final = -200.0
"""The probability of a lower log-probability is 0 in float32; with -inf the product would be no number."""


def keep_top_k(scores: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Drop scores below each row's k-th; ties with it stay.

    `scores` float32 [rows, width], descending; `k` int64 [rows], from 1 to the width.
    """
    return scores.masked_fill(scores < scores.gather(-1, k[:, None] - 1), -torch.inf)


def keep_mass(scores: torch.Tensor, probabilities: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keep each row's candidates, in the order given, until their probability reaches p; the first always stays.

    `scores` and `probabilities` float32 [rows, width]; `p` float32 [rows], where 1 keeps all. Of candidates in
    descending order this keeps the nucleus: Holtzman et al., The Curious Case of Neural Text Degeneration, 2019.
    """
    before = probabilities.cumsum(dim=-1) - probabilities
    dropped = (before >= p[:, None]) & (p[:, None] < 1)
    dropped[:, 0] = False
    return scores.masked_fill(dropped, -torch.inf)


def keep_typical(scores: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keep each row's smallest set of most typical candidates whose probability reaches p; p of 1 keeps all.

    Ties in the order given. `scores` float32 [rows, width], `p` float32 [rows]; the most typical always stays.
    """
    logprobs = scores.log_softmax(dim=-1)
    order = strangeness(logprobs).argsort(dim=-1, stable=True)
    kept = keep_mass(scores.gather(-1, order), logprobs.gather(-1, order).exp(), p)
    return torch.empty_like(scores).scatter(-1, order, kept)


def strangeness(logprobs: torch.Tensor) -> torch.Tensor:
    """Tell how far the information of each candidate, -log(probability), is from the entropy of its row.

    `logprobs` float32 [rows, width]. Meister et al., Locally Typical Sampling, 2022.
    """
    shares = blocks_of(logprobs.softmax(dim=-1) * logprobs.clamp(min=LEAST))
    return (logprobs - shares.sum(dim=-1).sum(dim=-1, keepdim=True)).abs()
