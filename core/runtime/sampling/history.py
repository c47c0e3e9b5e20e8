"""What rows hold so far, on the logits' device, and the penalties that follow from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from runtime.sampling.part import Part, SampledRow

ROOM: Final = 64
"""Columns added when there is none left for the next token; shapes change so seldom."""

Ids = npt.NDArray[np.int64]
Counts = npt.NDArray[np.float32]


class PromptCounts:
    """How often each id comes in a row's prompt; counted once, and forgotten with the row."""

    def __init__(self) -> None:
        self._counted: WeakKeyDictionary[SampledRow, tuple[Ids, Counts]] = WeakKeyDictionary()

    def of(self, row: SampledRow, vocabulary: int) -> tuple[Ids, Counts]:
        """Return the different ids and their counts; ids beyond the vocabulary cannot be chosen anyway."""
        if row not in self._counted:
            counts = {id: count for id, count in Counter(row.prompt).items() if id < vocabulary}
            self._counted[row] = np.fromiter(counts, np.int64), np.fromiter(counts.values(), np.float32)
        return self._counted[row]


class History:
    """The ids in the context of those rows of a batch that have a penalty, counted; kept up to date on the device.

    Penalties concern only what a context holds, so ids are listed rather than counted per id of the vocabulary. An id
    may stand in several columns, always with the same counts. Counts are floats because they are only ever multiplied
    with floats; they are exact up to 2**24.
    """

    def __init__(self, part: Part, vocabulary: int, prompts: PromptCounts) -> None:
        """Lay out what the rows hold now."""
        self._part = part
        rows, device = part.rows, part.index.device
        tally = np.zeros(vocabulary, np.float32)
        ids, held, replied = zip(
            *(_counted(*prompts.of(row, vocabulary), np.array(row.generated, np.int64), tally) for row in rows),
            strict=True,
        )
        self._ids = _columns(ids, device)  # int64 [rows, width]
        self._held = _columns(held, device)  # float32 [rows, width]; how often in prompt and reply
        self._replied = _columns(replied, device)  # float32 [rows, width]; how often in the reply
        self._room = 0
        self._next = torch.tensor([self._ids.shape[-1]], device=device)  # the column of the next token
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
        own = self._part.of(scores)
        new = own.gather(-1, self._ids)
        repeated = torch.where(new < 0, new * self._repetition, new / self._repetition)
        new = torch.where(self._held > 0, repeated, new)
        new = new - self._frequency * self._replied - self._presence * (self._replied > 0)
        new = new - self._share * (self._held / self._length)
        return self._part.put(scores, own.scatter(-1, self._ids, new))

    def add(self, ids: Sequence[int]) -> None:
        """Count the ids chosen now for the rows of the batch; a row whose id is below 0 does not go on."""
        chosen = self._part.of(torch.tensor([max(id, 0) for id in ids]).to(self._ids.device))[:, None]
        if self._room == 0:
            self._ids, self._held, self._replied = map(_with_room, (self._ids, self._held, self._replied))
            self._room = ROOM
        known = self._ids == chosen
        self._length += 1
        for counts in (self._held, self._replied):
            counts += known
            counts.index_copy_(1, self._next, torch.where(known, counts, 1).amax(dim=-1, keepdim=True))
        self._ids.index_copy_(1, self._next, chosen)
        self._next += 1
        self._room -= 1


def _counted(prompt_ids: Ids, prompt_counts: Counts, reply: Ids, tally: Counts) -> tuple[Ids, Counts, Counts]:
    """Return the ids of prompt and reply, how often each is in both, and in the reply; `tally` has a 0 per id."""
    ids = np.concatenate([prompt_ids, reply])
    np.add.at(tally, reply, 1)
    replied = tally[ids]
    tally[prompt_ids] += prompt_counts
    held = tally[ids]
    tally[ids] = 0
    return ids, held, replied


def _columns(lists: Sequence[npt.NDArray[Any]], device: torch.device) -> torch.Tensor:
    """Lay out a list per row, [rows, longest]; shorter ones go on with their first entry, which changes nothing."""
    laid_out = np.zeros((len(lists), max(map(len, lists))), lists[0].dtype)
    for row, values in zip(laid_out, lists, strict=True):
        row[: len(values)] = values
        row[len(values) :] = values[:1]
    return torch.from_numpy(laid_out).to(device)


def _with_room(columns: torch.Tensor) -> torch.Tensor:
    """Add columns like the first one."""
    return torch.cat([columns, columns[:, :1].expand(-1, ROOM)], dim=-1)


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
