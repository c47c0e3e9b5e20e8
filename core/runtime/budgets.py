"""What requests cost and what may be computed together, in tokens after padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from runtime.backend import Limits


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request costs, in tokens after padding; computed by whoever submits it."""

    prefill_tokens: int
    """Of its prompt."""
    total_tokens: int
    """Of its prompt and its longest reply: the context its row may come to hold, charged until it ends."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What may be computed together, and when newcomers may interrupt the rows that run."""

    prefill_tokens: int
    """Padded tokens of one prefill: `--max-batch-prefill-tokens`."""
    total_tokens: int
    """Padded tokens of all rows that hold a slot: `--max-batch-total-tokens`."""
    padded: bool = True
    """Whether a prefill computes every row to the length of its longest, and so costs rows x longest."""
    waiting_served_ratio: float = 0.3
    """A prefill interrupts n running rows for n times this many newcomers: `--waiting-served-ratio`."""
    max_waiting_tokens: int = 20
    """Or for any newcomer, so many decode steps after the last prefill: `--max-waiting-tokens`."""
    queue_threshold_ms: int = 120
    """Age from which a waiting request goes before shorter ones; 0: first come, first served: `QUEUE_THRESHOLD_MS`."""

    @classmethod
    def of(cls, limits: Limits) -> Budgets:
        """Return budgets for a prefill of full rows, and for every slot to be full."""
        return cls(limits.prefill_rows * limits.prefill_tokens, limits.rows * limits.context)

    def prefill_cost(self, rows: int, longest: int, together: int) -> int:
        """Return the cost of a prefill of `rows` prompts, `together` tokens long, one of them the `longest`."""
        return rows * longest if self.padded else together


class Shapes(Protocol):
    """The prefills a backend has shapes for."""

    def fits(self, rows: int, longest: int) -> bool:
        """Tell whether `rows` prompts, the longest of so many padded tokens, can be computed together."""
        ...


class AnyShape:
    """The shapes of a backend that takes any."""

    def fits(self, rows: int, longest: int) -> bool:  # noqa: ARG002
        return True


ANY_SHAPE: Final = AnyShape()
