"""One device step: rows -> batch -> hook -> chosen tokens -> what happened to each row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from runtime.backend import Placement, Prefix
from runtime.batches import ShapeLookup, decode_batch, prefill_batch
from runtime.errors import BackendContractError, BackendError, InvalidRequest
from runtime.plugins import Hooks
from runtime.row import Outcome, Row
from runtime.runtime import Delta
from runtime.sampling.choices import NOT_A_NUMBER, Choices, Scored
from runtime.sampling.sampler import Sampler
from runtime.telemetry.metrics import Metrics

ENCODE_SECONDS: Final = "image_encode_seconds"
"""The key of `stats()` under which a backend may tell the time its vision tower took so far."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    method: str
    """The hook: prefill or decode."""
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

    def __init__(self, hooks: Hooks, shapes: ShapeLookup, metrics: Metrics) -> None:
        self._hooks = hooks
        self._shapes = shapes
        self._metrics = metrics
        self._sampler = Sampler()

    def prefill(self, rows: Sequence[Row]) -> tuple[Step, Prefix[Any]]:
        """Compute a part of the prompts of rows that have their slots; choose the first token of those now whole."""
        batch = prefill_batch(rows, self._shapes)
        self._metrics.next_batch_size.observe(len(rows))
        self._metrics.padding_share.observe(1 - int(batch.lengths.sum()) / batch.tokens.numel())
        has_pictures = any(images is not None for images in batch.images)
        encoded = self._encode_seconds() if has_pictures else None
        started = time.perf_counter_ns()
        output = self._hooks.prefill(batch)
        whole = [index for index, row in enumerate(rows) if row.is_whole]
        logits = output.logits
        if len(whole) < len(logits):
            logits = logits.index_select(0, torch.tensor(whole, dtype=torch.int64).to(logits.device))
        step = self._choose("prefill", [rows[index] for index in whole], logits, started)
        if has_pictures:
            self._tell_picture_stages(step, encoded)
        return self._with_prompts(step, rows, output.prompt_logprobs), output.prefix

    def place(self, prefix: Prefix[Any], prefilled: Sequence[Row], rows: Sequence[Row]) -> None:
        """Concatenate those of the `prefilled` rows that are still wanted."""
        placements = tuple(Placement(prefilled.index(row), row.slot) for row in rows)
        if placements:
            with self._metrics.concat_duration.labels("decode").time():
                self._hooks.concatenate(prefix, placements)

    def decode(self, rows: Sequence[Row]) -> Step:
        """Advance placed rows by one token."""
        batch = decode_batch(rows, self._shapes)
        started = time.perf_counter_ns()
        logits = self._hooks.decode(batch).logits
        slots = torch.tensor([row.slot for row in rows]).to(logits.device)
        return self._choose("decode", rows, logits.index_select(0, slots), started)

    def _with_prompts(self, step: Step, rows: Sequence[Row], logprobs: torch.Tensor | None) -> Step:
        """Add the prompt's log-probabilities to those of the prefilled `rows` that asked for them."""
        if not any(row.prompt_logprobs for row, _ in step.outcomes):
            return step
        outcomes = list(step.outcomes)
        for index, (row, outcome) in enumerate(step.outcomes):
            if row.prompt_logprobs and isinstance(outcome, Delta):
                if logprobs is None:
                    reason = f"backend {self._hooks.name} cannot tell the log-probabilities of a prompt"
                    outcomes[index] = row, InvalidRequest(f"`decoder_input_details`: {reason}; leave it out")
                else:
                    told = row.prefill_tokens(logprobs[rows.index(row), : len(row.prompt)].tolist())
                    outcomes[index] = row, replace(outcome, prefill=told)
        return replace(step, outcomes=tuple(outcomes))

    def _tell_picture_stages(self, step: Step, encoded_before: float | None) -> None:
        stages = self._metrics.image_stage
        stages.labels("prefill").observe(step.forward_ns / 1e9)
        encoded = self._encode_seconds()
        if encoded is not None and encoded_before is not None and encoded >= encoded_before:
            stages.labels("encode").observe(encoded - encoded_before)

    def _encode_seconds(self) -> float | None:
        with suppress(BackendError):  # the log has it; no request is lost for a measurement
            return self._hooks.stats().get(ENCODE_SECONDS)
        return None

    def _choose(self, hook: str, rows: Sequence[Row], logits: torch.Tensor, started: int) -> Step:
        computed = time.perf_counter_ns()
        chosen = self._sampler.choose(rows, logits) if rows else Choices([], [], [])
        outcomes = tuple(
            (row, self._outcome(hook, row, token, logprob, top))
            for row, token, logprob, top in zip(rows, chosen.ids, chosen.logprobs, chosen.top, strict=True)
        )
        step = Step(hook, outcomes, computed - started, time.perf_counter_ns() - computed)
        self._metrics.forward_duration.labels(hook).observe(step.forward_ns / 1e9)
        self._metrics.decode_duration.labels(hook).observe(step.decode_ns / 1e9)
        return step

    def _outcome(self, hook: str, row: Row, token: int, logprob: float, top: Sequence[Scored]) -> Outcome:
        if token == NOT_A_NUMBER:
            return BackendContractError(f"backend {self._hooks.name}: {hook} answered logits that are not numbers")
        try:
            return row.push(token, logprob, top)
        except InvalidRequest as error:  # its grammar failed: a matter of this row alone
            return error
