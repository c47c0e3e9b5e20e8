"""Leases over an arithmetic backend, without an engine and with a clock that the test turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.batches import AnyShapes
from runtime.budgets import Budgets, Demand
from runtime.leases import Leases
from runtime.plugins import Hooks
from runtime.prefixes import Prefixes
from runtime.row import Row
from runtime.runtime import SamplingParameters, StepResult, StoppingParameters
from runtime.sampling.stopping import StopRule
from runtime.slots import SlotTable
from runtime.stepper import Stepper
from runtime.telemetry.metrics import Metrics
from support.arithmetic import EOS, ArithmeticBackend
from support.serving import LIMITS, MODEL, TOKENIZER, ids

IDLE = 10.0


def row(prompt: Sequence[int], count: int = 8) -> Row:
    """A greedy row, as `LocalRuntime` makes them."""
    rule = StopRule.of(StoppingParameters(count), LIMITS.context - len(prompt), frozenset({EOS}))
    return Row(
        key=0,
        prompt=tuple(prompt),
        images=None,
        demand=Demand(len(prompt), len(prompt) + count),
        sampling=SamplingParameters(),
        seed=0,
        stop_rule=rule,
        vocabulary=TOKENIZER,
    )


@dataclass
class Bench:
    """Leases over an arithmetic backend, and the hands of the clock."""

    backend: ArithmeticBackend = field(default_factory=lambda: ArithmeticBackend(MODEL.vocabulary, LIMITS))
    now: float = 100.0
    budgets: Budgets = field(default_factory=lambda: Budgets.of(LIMITS))

    def __post_init__(self) -> None:
        hooks = Hooks("arithmetic", self.backend, MODEL, LIMITS)
        self.slots = SlotTable(LIMITS.rows, self.budgets.total_tokens)
        metrics = Metrics(LIMITS.prefill_tokens, LIMITS.context, LIMITS.rows)
        stepper = Stepper(hooks, AnyShapes(LIMITS), metrics)
        self.leases = Leases(
            hooks, stepper, self.slots, Prefixes(enabled=False), self.budgets, IDLE, lambda: self.now, metrics
        )

    def prefill(self, prompts: dict[int, Sequence[int]], count: int = 8) -> int:
        """Lease rows; return the batch's id."""
        result = self.leases.prefill([(id, row(prompt, count)) for id, prompt in prompts.items()])
        assert result.batch is not None
        return result.batch.id

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.leases.expire()


def told(result: StepResult) -> dict[int, list[int]]:
    """Token ids by request id."""
    return {request_id: ids(delta) for request_id, delta in result.deltas}
