"""A scheduler to tell stories with."""

from __future__ import annotations

import pytest
from runtime.budgets import ANY_SHAPE, Budgets, Demand, Shapes
from runtime.scheduler import DecodeStep, PrefillStep, Scheduler
from runtime.slots import SlotTable

LARGE = 10**6
SMALL = Demand(1, 2)
GUIDE = Budgets(prefill_tokens=16384, total_tokens=32768)
"""TGI-Gaudi's guide: --max-input-tokens 4096 --max-total-tokens 8192 and these."""


class Fixture:
    """A scheduler that reads as a story: who comes, what runs, the milliseconds that pass."""

    def __init__(
        self, slots: int = 4, prefill_rows: int = 2, budgets: Budgets | None = None, shapes: Shapes = ANY_SHAPE
    ) -> None:
        budgets = budgets or Budgets(prefill_tokens=LARGE, total_tokens=LARGE, waiting_served_ratio=0)
        self.table = SlotTable(slots, budgets.total_tokens)
        self.scheduler: Scheduler[str] = Scheduler(self.table, prefill_rows, budgets, shapes)
        self.milliseconds = 0

    def add(self, keys: str, demand: Demand = SMALL) -> None:
        for key in keys:
            self.scheduler.add(key, demand, self.milliseconds / 1000)

    def remove(self, keys: str) -> None:
        for key in keys:
            self.scheduler.remove(key)

    def step(self) -> str:
        """Say `prefill ab`, `continue ab`, `decode ab` or `idle`."""
        match self.scheduler.next_step(self.milliseconds / 1000):
            case PrefillStep((), continued=keys):
                return "continue " + "".join(keys)
            case PrefillStep(placed):
                return "prefill " + "".join(key for key, _ in placed)
            case DecodeStep(keys):
                return "decode " + "".join(keys)
            case None:
                return "idle"

    def decodes_until_prefill(self) -> int:
        """Step until the next prefill and count the decode steps before it."""
        for count in range(1000):
            if self.step().startswith("prefill"):
                return count
        pytest.fail("no prefill within 1000 steps")

    def part(self) -> str:
        """Step, and say that the prompts of the step need another part."""
        told = self.step()
        for key in told.split()[1]:
            self.scheduler.hold(key)
        return told
