"""Narrowing the candidates of every row at once, on the logits' device."""

from __future__ import annotations

import torch


def keep_top_k(scores: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Drop scores below each row's k-th best; ties with it stay; k of 0 keeps all.

    `scores` float [rows, vocabulary], `k` int64 [rows]; dropped scores become -inf.
    """
    vocabulary = scores.shape[-1]
    ranks = torch.where(k > 0, k, vocabulary).clamp(max=vocabulary) - 1
    ordered = scores.sort(dim=-1, descending=True).values
    worst = ordered.gather(-1, ranks[:, None])
    return scores.masked_fill(scores < worst, -torch.inf)


def keep_top_p(scores: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Keep each row's smallest set of best scores whose probability reaches p; p of 1 keeps all.

    `scores` float [rows, vocabulary], `p` float32 [rows]; the best score always stays; dropped scores become -inf.
    Nucleus sampling: Holtzman et al., The Curious Case of Neural Text Degeneration, 2019.
    """
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    mass = ordered.softmax(dim=-1)
    before = mass.cumsum(dim=-1) - mass
    dropped = (before >= p[:, None]) & (p[:, None] < 1)
    dropped[:, 0] = False
    return scores.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -torch.inf)
