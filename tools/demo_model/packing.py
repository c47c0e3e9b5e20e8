"""Many conversations about one picture in one row of a batch.

A row is the picture's prefix once, then segments. Each segment sees the prefix and itself only and has the positions it
would have alone, so a row is exactly many single conversations for the price of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from encoding import Segment

NO_LABEL = -100


@dataclass(frozen=True, slots=True)
class Prefix:
    """What all segments of a row see."""

    states: torch.Tensor  # float [rows, prefix, hidden], padded on the right
    positions: torch.Tensor  # int64 [rows, prefix]
    lengths: torch.Tensor  # int64 [rows]


@dataclass(frozen=True, slots=True)
class Tail:
    """The segments of each row, one after the other."""

    ids: torch.Tensor  # int64 [rows, tail]
    labels: torch.Tensor  # int64 [rows, tail], NO_LABEL where the model need not say the id
    positions: torch.Tensor  # int64 [rows, tail]
    visible: torch.Tensor  # bool [rows, tail, tail], query before key


def stack_prefixes(states: Sequence[torch.Tensor], kept: Sequence[torch.Tensor] | None = None) -> Prefix:
    """Return prefixes [tokens, hidden] as one batch; `kept`, int64 [tokens kept], leaves out all other tokens.

    Kept tokens stay at their true positions.
    """
    if kept is None:
        kept = [torch.arange(len(state)) for state in states]
    longest = max(len(places) for places in kept)
    return Prefix(
        states=torch.stack([_padded(state[places], longest) for state, places in zip(states, kept, strict=True)]),
        positions=torch.stack([_padded(places, longest) for places in kept]),
        lengths=torch.tensor([len(places) for places in kept]),
    )


def pack(prefix_lengths: Sequence[int], rows: Sequence[Sequence[Segment]], pad: int) -> Tail:
    """Return the segments of each row; the lengths are those of whole prefixes, which positions go on from."""
    longest = max(sum(len(segment.ids) for segment in segments) for segments in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), NO_LABEL)
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    owner = torch.full((len(rows), longest), -1)
    for row, (prefix_length, segments) in enumerate(zip(prefix_lengths, rows, strict=True)):
        start = 0
        for number, segment in enumerate(segments):
            here = slice(start, start + len(segment.ids))
            ids[row, here] = torch.tensor(segment.ids)
            labels[row, here] = ids[row, here].where(torch.tensor(segment.is_answer), NO_LABEL)
            positions[row, here] = torch.arange(len(segment.ids)) + prefix_length
            owner[row, here] = number
            start = here.stop
    same_segment = owner[:, :, None] == owner[:, None, :]
    return Tail(ids, labels, positions, same_segment & torch.ones(longest, longest, dtype=torch.bool).tril())


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Return the tensor with zeros after its first dimension."""
    return F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, length - len(tensor)))
