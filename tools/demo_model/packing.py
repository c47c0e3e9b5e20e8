"""Many conversations about one picture in one row of a batch.

A row is the picture's prefix once, then segments. Each segment sees the prefix and itself only and has the positions it
would have alone, so a row is exactly many single conversations for the price of one picture.
"""

from __future__ import annotations

import itertools
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
    lengths: torch.Tensor  # int64 [rows]


@dataclass(frozen=True, slots=True)
class Tail:
    """The segments of each row, one after the other."""

    ids: torch.Tensor  # int64 [rows, tail]
    labels: torch.Tensor  # int64 [rows, tail], NO_LABEL where the model need not say the id
    positions: torch.Tensor  # int64 [rows, tail]
    visible: torch.Tensor  # bool [rows, tail, tail], query before key


def stack_prefixes(states: Sequence[torch.Tensor]) -> Prefix:
    """Return prefixes [tokens, hidden] as one batch."""
    longest = max(len(state) for state in states)
    return Prefix(
        states=torch.stack([F.pad(state, (0, 0, 0, longest - len(state))) for state in states]),
        lengths=torch.tensor([len(state) for state in states]),
    )


def pack(prefix_lengths: Sequence[int], rows: Sequence[Sequence[Segment]], pad: int) -> Tail:
    """Return the segments of each row; positions go on from the lengths of the prefixes."""
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


def whole_answers(token_right: torch.Tensor, rows: Sequence[Sequence[Segment]]) -> list[list[bool]]:
    """Return for each segment whether all its answer tokens are right.

    `token_right`, bool [rows, tail - 1], says of each id whether the next one is said right, or need not be said.
    """
    result = []
    for row, segments in zip(token_right.tolist(), rows, strict=True):
        ends = list(itertools.accumulate((len(segment.ids) for segment in segments), initial=0))
        # The last id of a segment says nothing of its own.
        result.append([all(row[start : end - 1]) for start, end in itertools.pairwise(ends)])
    return result
