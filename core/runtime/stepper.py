"""One device step: rows -> batch -> hook -> chosen tokens -> what happened to each row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from runtime.backend import DecodeBatch, DecodeShape, Limits, Placement, PrefillBatch, PrefillShape, Prefix
from runtime.errors import BackendContractError, InvalidRequest
from runtime.plugins import Hooks
from runtime.row import Outcome, Row
from runtime.runtime import Delta
from runtime.sampling.sampler import NOT_A_NUMBER, Sampler, Scored


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    outcomes: tuple[tuple[Row, Outcome], ...]
    """One per row, in the order given."""
    forward_ns: int
    """Time in the backend's hook."""
    decode_ns: int
    """Time in choosing and detokenizing."""

    @property
    def live_rows(self) -> list[Row]:
        """Rows that go on."""
        return [row for row, outcome in self.outcomes if not is_final(outcome)]


def is_final(outcome: Outcome) -> bool:
    """Whether nothing comes after this."""
    return isinstance(outcome, Exception) or outcome.completion is not None


class Stepper:
    """Runs steps through the hooks; called on the device thread only."""

    def __init__(self, hooks: Hooks, limits: Limits) -> None:
        self._hooks = hooks
        self._limits = limits
        self._sampler = Sampler()

    def prefill(self, rows: Sequence[Row]) -> tuple[Step, Prefix[Any]]:
        """Compute the prompts of rows that have their slots, and choose each first token."""
        batch = _prefill_batch(rows)
        started = time.perf_counter_ns()
        output = self._hooks.prefill(batch)
        step = self._choose("prefill", rows, output.logits, started)
        return self._with_prompts(step, output.prompt_logprobs), output.prefix

    def place(self, prefix: Prefix[Any], prefilled: Sequence[Row], rows: Sequence[Row]) -> None:
        """Concatenate those of the `prefilled` rows that are still wanted."""
        placements = tuple(Placement(prefilled.index(row), row.slot) for row in rows)
        if placements:
            self._hooks.concatenate(prefix, placements)

    def decode(self, rows: Sequence[Row]) -> Step:
        """Advance placed rows by one token."""
        batch = self._decode_batch(rows)
        started = time.perf_counter_ns()
        logits = self._hooks.decode(batch).logits
        slots = torch.tensor([row.slot for row in rows]).to(logits.device)
        return self._choose("decode", rows, logits.index_select(0, slots), started)

    def _with_prompts(self, step: Step, logprobs: torch.Tensor | None) -> Step:
        """Add the prompt's log-probabilities to the rows that asked for them."""
        if not any(row.prompt_logprobs for row, _ in step.outcomes):
            return step
        outcomes = list(step.outcomes)
        for index, (row, outcome) in enumerate(step.outcomes):
            if row.prompt_logprobs and isinstance(outcome, Delta):
                if logprobs is None:
                    reason = f"backend {self._hooks.name} cannot tell the log-probabilities of a prompt"
                    outcomes[index] = row, InvalidRequest(f"`decoder_input_details`: {reason}; leave it out")
                else:
                    told = row.prefill_tokens(logprobs[index, : len(row.prompt)].tolist())
                    outcomes[index] = row, replace(outcome, prefill=told)
        return replace(step, outcomes=tuple(outcomes))

    def _choose(self, hook: str, rows: Sequence[Row], logits: torch.Tensor, started: int) -> Step:
        computed = time.perf_counter_ns()
        chosen = self._sampler.choose(rows, logits)
        outcomes = tuple(
            (row, self._outcome(hook, row, token, logprob, top))
            for row, token, logprob, top in zip(rows, chosen.ids, chosen.logprobs, chosen.top, strict=True)
        )
        return Step(outcomes, computed - started, time.perf_counter_ns() - computed)

    def _outcome(self, hook: str, row: Row, token: int, logprob: float, top: Sequence[Scored]) -> Outcome:
        if token == NOT_A_NUMBER:
            return BackendContractError(f"backend {self._hooks.name}: {hook} answered logits that are not numbers")
        try:
            return row.push(token, logprob, top)
        except InvalidRequest as error:  # its grammar failed: a matter of this row alone
            return error

    def _decode_batch(self, rows: Sequence[Row]) -> DecodeBatch:
        width = self._limits.rows
        tokens, positions, active = [0] * width, [0] * width, [False] * width
        for row in rows:
            tokens[row.slot], positions[row.slot], active[row.slot] = row.generated[-1], row.position, True
        return DecodeBatch(
            shape=DecodeShape(width, self._limits.context),
            tokens=torch.tensor(tokens),
            positions=torch.tensor(positions),
            active=torch.tensor(active),
        )


def _prefill_batch(rows: Sequence[Row]) -> PrefillBatch:
    lengths = [len(row.prompt) for row in rows]
    tokens = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
    for index, row in enumerate(rows):
        tokens[index, : lengths[index]] = torch.tensor(row.prompt)
    tiles = sum(sum(row.images.counts) for row in rows if row.images is not None)
    return PrefillBatch(
        shape=PrefillShape(len(rows), max(lengths), tiles),
        tokens=tokens,
        lengths=torch.tensor(lengths),
        offsets=torch.zeros(len(rows), dtype=torch.int64),
        slots=torch.tensor([row.slot for row in rows]),
        images=tuple(row.images for row in rows),
        prompt_logprobs=any(row.prompt_logprobs for row in rows),
    )
