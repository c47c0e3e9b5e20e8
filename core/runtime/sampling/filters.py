"""Narrowing the candidates of every row at once, on the logits' device."""

from __future__ import annotations

import torch


def keep_top_k(scores: torch.Tensor, k: torch.Tensor, largest: int) -> torch.Tensor:
    """Drop scores below each row's k-th best; ties with it stay.

    `scores` float [rows, vocabulary], `k` int64 [rows] from 1 to `largest`, which the host knows and which is at most
    the vocabulary; dropped scores become -inf.
    """
    best = scores.topk(largest, dim=-1).values
    worst = best.gather(-1, k[:, None] - 1)
    return scores.masked_fill(scores < worst, -torch.inf)


def keep_top_p(scores: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keep each row's smallest set of best scores whose probability reaches p; p of 1 keeps all.

    `scores` float [rows, vocabulary], `p` float32 [rows]; the best score always stays; dropped scores become -inf.
    Nucleus sampling: Holtzman et al., The Curious Case of Neural Text Degeneration, 2019.
    """
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    return _keep_mass(scores, ordered.softmax(dim=-1), order, p)


def keep_typical(scores: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keep each row's smallest set of most typical candidates whose probability reaches p; p of 1 keeps all.

    A candidate is the more typical the nearer its information -log(probability) is to the entropy; ties in the order
    of ids. `scores` float [rows, vocabulary], `p` float32 [rows]; the most typical always stays; dropped scores become
    -inf. Meister et al., Locally Typical Sampling, 2022.
    """
    logprobs = scores.log_softmax(dim=-1)
    probabilities = logprobs.exp()
    entropy = -torch.where(probabilities > 0, probabilities * logprobs, 0).sum(dim=-1, keepdim=True)
    order = (-logprobs - entropy).abs().argsort(dim=-1, stable=True)
    return _keep_mass(scores, probabilities.gather(-1, order), order, p)


def _keep_mass(scores: torch.Tensor, mass: torch.Tensor, order: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keep candidates in this order until their probability, `mass` in the same order, reaches p."""
    before = mass.cumsum(dim=-1) - mass
    dropped = (before >= p[:, None]) & (p[:, None] < 1)
    dropped[:, 0] = False
    return scores.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -torch.inf)
