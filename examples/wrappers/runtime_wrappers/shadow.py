"""The reference beside the backend: every step computed twice, and told where the best token differs."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import torch
from runtime import hookimpl
from runtime.backend import DecodeBatch, DecodeOutput, Limits, ModelSpec, Placement, PrefillBatch, PrefillOutput
from runtime_cpu_reference import load

log = logging.getLogger(__name__)


class Shadow:
    """Computes in the hot path, so every step takes as long as the reference: to try a backend, not for production.

    The reference takes whole prompts only: a row whose prompt comes in parts, or begins with what its slot holds, is
    not followed. A failure of the reference is logged and ends nothing.
    """

    def __init__(self, model: ModelSpec, limits: Limits) -> None:
        self._reference = load(model, limits)
        self._followed: set[int] = set()
        """Slots that hold the same in the reference."""
        self._told = {"shadow_rows": 0.0, "shadow_differing": 0.0}

    @hookimpl(wrapper=True)
    def prefill(self, batch: PrefillBatch) -> Generator[None, PrefillOutput, PrefillOutput]:
        output = yield
        slots = [slot for slot in batch.slots.tolist() if slot >= 0]
        self._followed.difference_update(slots)
        if not batch.offsets.any():
            try:
                expected = self._reference.prefill(batch)
                # A row always goes to the slot that its prefill names, so the reference need not wait to be told.
                rows = [Placement(row, slot) for row, slot in enumerate(batch.slots.tolist()) if slot >= 0]
                self._reference.concatenate(expected.prefix, rows)
                self._followed.update(slots)
                self._compare({at.row: f"slot {at.slot}, first token" for at in rows}, output.logits, expected.logits)
            except Exception:
                log.exception("the reference failed in prefill")
        return output

    @hookimpl(wrapper=True)
    def decode(self, batch: DecodeBatch) -> Generator[None, DecodeOutput, DecodeOutput]:
        output = yield
        slots = [slot for slot in batch.active.nonzero().flatten().tolist() if slot in self._followed]
        if slots:
            active = torch.zeros_like(batch.active)
            active[slots] = True
            try:
                expected = self._reference.decode(replace(batch, active=active))
                where = {slot: f"slot {slot}, position {int(batch.positions[slot])}" for slot in slots}
                self._compare(where, output.logits, expected.logits)
            except Exception:
                log.exception("the reference failed in decode")
                self._followed.difference_update(slots)
        return output

    @hookimpl(wrapper=True)
    def release(self, slots: Sequence[int]) -> Generator[None, object, object]:
        self._followed.difference_update(slots)
        return (yield)

    @hookimpl(wrapper=True)
    def stats(self) -> Generator[None, Mapping[str, float] | None, Mapping[str, float]]:
        told = yield
        return {**(told or {}), **self._told}

    def _compare(self, rows: Mapping[int, str], logits: torch.Tensor, expected: torch.Tensor) -> None:
        """Tell each row whose best token differs, with the margin by which the reference prefers its own."""
        for row, where in rows.items():
            told, wanted = int(logits[row].argmax()), int(expected[row].argmax())
            self._told["shadow_rows"] += 1
            if told != wanted:
                self._told["shadow_differing"] += 1
                margin = float(expected[row, wanted] - expected[row, told])
                log.warning("%s: token %d, the reference has %d by a margin of %.3f", where, told, wanted, margin)
