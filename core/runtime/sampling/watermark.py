"""A watermark that a detector can find in a text without the model: after each token half of the ids is favoured.

Kirchenbauer et al., A Watermark for Large Language Models, 2023; the numbers are TGI's, so that its detectors work.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import torch

WATERMARK_GAMMA: Final = 0.5
"""Share of the vocabulary that is favoured."""
WATERMARK_DELTA: Final = 2.0
"""Added to the score of a favoured id."""
HASH_KEY: Final = 15485863
MOST_LISTS: Final = 256
"""Green lists kept; one takes a byte per id of the vocabulary."""


class GreenLists:
    """Which ids are favoured after which token; each list is drawn once and kept while it is used."""

    def __init__(
        self, gamma: float = WATERMARK_GAMMA, delta: float = WATERMARK_DELTA, most_lists: int = MOST_LISTS
    ) -> None:
        self._gamma = gamma
        self._delta = delta
        self._most_lists = most_lists
        self._lists: OrderedDict[int, torch.Tensor] = OrderedDict()

    def bonus(self, last_tokens: Sequence[int], vocabulary: int, device: torch.device) -> torch.Tensor:
        """Return what is added to the scores after these tokens, float32 [tokens, vocabulary], device."""
        return torch.stack([self._green(token, vocabulary, device) for token in last_tokens]) * self._delta

    def _green(self, token: int, vocabulary: int, device: torch.device) -> torch.Tensor:
        if token not in self._lists:
            self._lists[token] = green_list(token, vocabulary, self._gamma).to(device)
            if len(self._lists) > self._most_lists:
                self._lists.popitem(last=False)
        self._lists.move_to_end(token)
        return self._lists[token]


def green_list(token: int, vocabulary: int, gamma: float) -> torch.Tensor:
    """Draw the favoured ids after `token`, bool [vocabulary], cpu; the same on every machine and for every device."""
    generator = torch.Generator().manual_seed(HASH_KEY * token)
    green = torch.zeros(vocabulary, dtype=torch.bool)
    green[torch.randperm(vocabulary, generator=generator)[: int(vocabulary * gamma)]] = True
    return green
