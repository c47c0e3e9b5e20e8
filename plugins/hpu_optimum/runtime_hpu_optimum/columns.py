"""Where the tokens of each slot lie in a cache whose rows all write the same column.

optimum-habana places the new token of every row of a batch by one number, `token_idx`. A row that joined late, or held
still for a step, has no token in some columns then; the attention mask leaves them out, which the model allows.
"""

from __future__ import annotations

import torch


class Columns:
    """Bookkeeping on the host; columns before `next` may be taken, that and the later ones are free in every row."""

    def __init__(self, rows: int, columns: int) -> None:
        self.held = torch.zeros(rows, columns, dtype=torch.bool)  # [rows, columns], cpu
        self.next = 0

    @property
    def full(self) -> bool:
        """Whether no step fits before the columns are packed."""
        return self.next == self.held.shape[1]

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens of each slot: int64 [rows], cpu."""
        return self.held.sum(1)

    def place(self, slot: int, length: int) -> None:
        """Let a slot hold so many tokens, in the first columns."""
        self.held[slot] = False
        self.held[slot, :length] = True
        self.next = max(self.next, length)

    def release(self, slot: int) -> None:
        """Empty a slot."""
        self.held[slot] = False
        if not self.held.any():
            self.next = 0

    def append(self, active: torch.Tensor) -> int:
        """Give each active slot one more token (bool [rows], cpu); return the column it goes to.

        A step of no active slot takes no column.
        """
        column = self.next
        self.held[:, column] = active
        self.next += int(active.any())
        return column

    def pack(self) -> torch.Tensor:
        """Move every slot's tokens to the front, in order; return the column each comes from: int64 [rows, columns]."""
        # A stable sort of "is free" keeps the order within both.
        source = (~self.held).to(torch.uint8).argsort(dim=1, stable=True)
        self.held = self.held.gather(1, source)
        self.next = int(self.lengths.max())
        return source
