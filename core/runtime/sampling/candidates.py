"""The most probable candidates of every row at once."""

from __future__ import annotations

import torch


def best(logprobs: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` best ids of each row and their values, best first, ties in the order of ids.

    `logprobs` float32 [rows, vocabulary], where NaN counts as -inf; `count` at most the vocabulary. Returns int64 and
    float32 [rows, count]. No stable sort of the whole vocabulary is needed: of the ids that tie for the last places
    the lowest are taken, and only those kept are sorted.
    """
    vocabulary = logprobs.shape[-1]
    values = logprobs.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    last = values.topk(count, dim=-1).values[:, -1:]
    better, tied = values > last, values == last
    places_left = count - better.sum(dim=-1, keepdim=True)
    kept = better | (tied & (tied.cumsum(dim=-1) <= places_left))
    every = torch.arange(vocabulary, device=values.device).expand_as(values)
    ids = torch.where(kept, every, vocabulary).topk(count, dim=-1, largest=False).values
    chosen = values.gather(-1, ids)
    ordered, order = chosen.sort(dim=-1, descending=True, stable=True)
    return ids.gather(-1, order), ordered
