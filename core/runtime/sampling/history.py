"""What rows have said so far, counted per id on the logits' device, and the penalties that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch

from runtime.sampling.part import Part


class History:
    """Counts for those rows of a batch that have a penalty; kept up to date without the host.

    It costs two float32 [rows, vocabulary], for rows with a penalty only. Counts are floats because they are only ever
    multiplied with floats; they are exact up to 2**24.
    """

    def __init__(self, part: Part, vocabulary: int) -> None:
        """Count prompts and replies anew from the host's lists; ids beyond the vocabulary cannot be chosen anyway."""
        rows, self._index = part.rows, part.index
        device = self._index.device
        self._replied = _counts([row.generated for row in rows], vocabulary, device)
        self._held = _counts([row.prompt for row in rows], vocabulary, device) + self._replied
        self._length = _column([len(row.prompt) + len(row.generated) for row in rows], device)
        self._repetition = _column([row.sampling.repetition_penalty for row in rows], device)
        self._frequency = _column([row.sampling.frequency_penalty for row in rows], device)
        self._presence = _column([row.sampling.presence_penalty for row in rows], device)
        self._share = _column([row.sampling.frequency_share for row in rows], device)

    def penalised(self, scores: torch.Tensor) -> torch.Tensor:
        """Apply each row's penalties to its scores, float32 [rows, vocabulary]; other rows stay as they are.

        Repetition: Keskar et al., CTRL, 2019. Frequency and presence: OpenAI's API reference. Share: TGI's
        `frequency_penalty`, with the real length where TGI on accelerators counts padding too.
        """
        own = scores.index_select(0, self._index)
        repeated = torch.where(own < 0, own * self._repetition, own / self._repetition)
        own = torch.where(self._held > 0, repeated, own)
        own = own - self._frequency * self._replied - self._presence * (self._replied > 0)
        own = own - self._share * (self._held / self._length)
        return scores.index_copy(0, self._index, own)

    def add(self, ids: torch.Tensor) -> None:
        """Count the ids chosen now, int64 [rows of the batch], on the device."""
        chosen = ids.index_select(0, self._index)[:, None]
        once = torch.ones_like(chosen, dtype=torch.float32)
        self._replied.scatter_add_(1, chosen, once)
        self._held.scatter_add_(1, chosen, once)
        self._length += 1


def _counts(sequences: Sequence[Sequence[int]], vocabulary: int, device: torch.device) -> torch.Tensor:
    """Count each sequence's ids, float32 [sequences, vocabulary], device; only the ids travel there."""
    ids = torch.from_numpy(np.fromiter(chain.from_iterable(sequences), np.int64))  # by far the fastest way
    rows = torch.arange(len(sequences)).repeat_interleave(torch.tensor([len(sequence) for sequence in sequences]))
    places = (rows * vocabulary + ids)[ids < vocabulary].to(device)
    counts = torch.zeros(len(sequences) * vocabulary, device=device)
    return counts.scatter_add_(0, places, torch.ones_like(places, dtype=torch.float32)).view(-1, vocabulary)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
