"""The idle probe: what shows that a device which nobody has asked for a while still computes.

A process may answer every question about its health while its device is gone. So when no row was computed for a while,
a prompt of one token and one decode step are, in a slot that nobody holds. No request waits for more than the hook at
work, and no metric counts it but those of a shadow, to which it is a row like others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from runtime.backend import Placement
from runtime.batches import ShapeLookup, prefill_batch
from runtime.budgets import Demand
from runtime.errors import BackendError
from runtime.plugins import Hooks
from runtime.row import Row
from runtime.runtime import SamplingParameters
from runtime.sampling.stopping import StopRule
from runtime.stepper import Launched, Stepper

PROBE_SECONDS: Final = 30.0
"""Without a computed row, until the device is tried."""
AGAIN_SECONDS: Final = 2.0
"""After a probe that failed."""
PROMPT: Final = (1,)
"""Any id of any vocabulary."""

log = logging.getLogger(__name__)


class Probe:
    """Tries the device when it has been idle; used on the device thread, but for `trouble`."""

    def __init__(self, hooks: Hooks, stepper: Stepper, shapes: ShapeLookup, clock: Callable[[], float]) -> None:
        """`clock` gives seconds and does not go back."""
        self._hooks = hooks
        self._stepper = stepper
        self._shapes = shapes
        self._clock = clock
        self._due = clock() + PROBE_SECONDS
        self.trouble = ""
        """Why the last probe failed; empty once a probe or a request has succeeded. May be read by any thread."""

    def seconds_left(self, now: float) -> float:
        """Return how long the device may stay idle before it is tried."""
        return max(0.0, self._due - now)

    def worked(self) -> None:
        """Note that the device has just computed something."""
        self.trouble = ""
        self.postpone()

    def postpone(self) -> None:
        """Try the device later."""
        self._due = self._clock() + PROBE_SECONDS

    def run(self, slot: int, is_wanted: Callable[[], bool]) -> None:
        """Compute in a slot that nobody holds, and note how it went.

        The decode step is left out when the device `is_wanted` for something else by then. Raises DeviceLost.
        """
        row = _row(slot)
        try:
            self._compute(row, is_wanted)
        except BackendError as error:
            log.warning("the idle device was tried and failed: %s", error.message)
            self.trouble = f"the device fails: {error.message}"
            self._due = self._clock() + AGAIN_SECONDS
        else:
            self.worked()
        finally:
            self._hooks.release([slot])

    def _compute(self, row: Row, is_wanted: Callable[[], bool]) -> None:
        output = self._hooks.prefill(prefill_batch([row], self._shapes))
        self._choose(Launched("prefill", (row,), output.logits[:1], 0))
        if not is_wanted():
            self._hooks.concatenate(output.prefix, (Placement(0, row.slot),))
            self._choose(self._stepper.launch([row]))

    def _choose(self, launched: Launched) -> None:
        """Wait for the device and look at what it computed."""
        for failure in self._stepper.choose(launched).failures.values():
            raise failure


def _row(slot: int) -> Row:
    return Row(
        key=-1,
        prompt=PROMPT,
        images=None,
        demand=Demand(prefill_tokens=1, total_tokens=2),
        sampling=SamplingParameters(),
        seed=0,
        stop_rule=StopRule(max_new_tokens=2, eos_ids=frozenset(), stop=()),
        vocabulary=_NoText(),
        slot=slot,
    )


class _NoText:
    """The vocabulary of a reply that nobody reads."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:  # noqa: ARG002
        return ""

    def addition(self, id: int) -> str | None:  # noqa: ARG002
        return ""

    def is_special(self, token: int) -> bool:  # noqa: ARG002
        return False
