"""One device step: rows -> batch -> hook -> chosen tokens -> what happened to each row."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import torch

from runtime.backend import Placement, Prefix
from runtime.batches import ShapeLookup, computed_length, computed_size, decode_batch, decoded_together, prefill_batch
from runtime.errors import BackendContractError, BackendError, InvalidRequest, RuntimeServiceError
from runtime.plugins import Hooks
from runtime.row import Outcome, Row
from runtime.runtime import Delta
from runtime.sampling.choices import NOT_A_NUMBER, Choices
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


@dataclass(frozen=True, slots=True)
class Launched:
    """A step the backend was given."""

    hook: str
    rows: tuple[Row, ...]
    logits: torch.Tensor  # float [rows, vocabulary], device
    forward_ns: int
    """Time in the hook; on an asynchronous device that of the launch alone."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A step whose tokens are chosen and appended, but not told yet."""

    launched: Launched
    choices: Choices
    failures: Mapping[int, RuntimeServiceError]
    """By row key, of rows that got no token."""
    choose_ns: int

    @property
    def ends_some(self) -> bool:
        """Whether it is known already, without any text, that some row must not go on."""
        return bool(self.failures) or any(row.has_ended for row in self.launched.rows)


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
        forward_ns = time.perf_counter_ns() - started
        for row, images in zip(rows, batch.images, strict=False):  # what follows is padding
            row.bucket += computed_length(row, batch.shape, self._shapes)
            if row.recording is not None:
                row.recording.prefilled(batch.shape, images)
        whole = [index for index, row in enumerate(rows) if row.is_whole]
        logits = output.logits
        if len(whole) < len(logits):
            logits = logits.index_select(0, torch.tensor(whole, dtype=torch.int64).to(logits.device))
        launched = Launched("prefill", tuple(rows[index] for index in whole), logits, forward_ns)
        step = self.tell(self.choose(launched))
        self.tell_backend()
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
        return self.tell(self.choose(self.launch(rows)))

    def launch(self, rows: Sequence[Row]) -> Launched:
        """Have the backend advance placed rows; on an asynchronous device this returns before it is done."""
        started = time.perf_counter_ns()
        logits = [self._decoded(group) for group in decoded_together(rows, self._shapes)]
        whole = logits[0] if len(logits) == 1 else torch.cat(logits)
        return Launched("decode", tuple(rows), whole, time.perf_counter_ns() - started)

    def choose(self, launched: Launched) -> Chosen:
        """Choose each row's token and append it; waits for the device."""
        started = time.perf_counter_ns()
        rows = launched.rows
        choices = self._sampler.choose(rows, launched.logits) if rows else Choices([], [], [])
        failures = {
            row.key: failure
            for row, token in zip(rows, choices.ids, strict=True)
            if (failure := self._failure(launched.hook, row, token)) is not None
        }
        return Chosen(launched, choices, failures, time.perf_counter_ns() - started)

    def tell(self, chosen: Chosen) -> Step:
        """Find out what the chosen tokens add to the replies."""
        started = time.perf_counter_ns()
        hook, rows, choices = chosen.launched.hook, chosen.launched.rows, chosen.choices
        outcomes = tuple(
            (row, chosen.failures.get(row.key) or row.tell(logprob, top))
            for row, logprob, top in zip(rows, choices.logprobs, choices.top, strict=True)
        )
        step = Step(hook, outcomes, chosen.launched.forward_ns, chosen.choose_ns + time.perf_counter_ns() - started)
        self._metrics.forward_duration.labels(hook).observe(step.forward_ns / 1e9)
        self._metrics.decode_duration.labels(hook).observe(step.decode_ns / 1e9)
        return step

    def tell_backend(self) -> None:
        """Record what the backend counts: once it is loaded, and after each prefill."""
        self._metrics.tell_backend(self._stats())

    def _decoded(self, rows: Sequence[Row]) -> torch.Tensor:
        """Decode one batch; return the logits of its rows."""
        batch = decode_batch(rows, self._shapes)
        logits = self._hooks.decode(batch).logits
        for row in rows:
            if row.recording is not None:
                row.recording.decoded(computed_size(rows, batch.shape, self._shapes))
        return logits.index_select(0, _on_device(tuple(row.slot for row in rows), logits.device))

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
        return self._stats().get(ENCODE_SECONDS)

    def _stats(self) -> Mapping[str, float]:
        with suppress(BackendError):  # the log has it; no request is lost for a measurement
            return self._hooks.stats()
        return {}

    def _failure(self, hook: str, row: Row, token: int) -> RuntimeServiceError | None:
        """Append a token to its row; return why it cannot be, which is a matter of this row alone."""
        if token == NOT_A_NUMBER:
            return BackendContractError(f"backend {self._hooks.name}: {hook} answered logits that are not numbers")
        try:
            row.take(token)
        except InvalidRequest as error:  # its grammar failed
            return error
        return None


@lru_cache(maxsize=64)
def _on_device(slots: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return slots as an index, int64 [rows], on a device.

    Kept, as rows are the same for many steps: a copy from the host would wait for the step that was just launched.
    """
    return torch.tensor(slots).to(device)
