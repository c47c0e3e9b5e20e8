"""Which rule makes the buckets of each dimension: `--bucket-strategy`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from runtime.config import Settings
from runtime.shapes.bucket_file import read_bucket_file
from runtime.shapes.buckets import Doubling, Exponential, Ladder, Linear, Listed

LENGTH_GROWTH: Final = Fraction(5, 4)
"""Of `exponential`: 13 lengths up to 4096, as many as vLLM's exponential rule makes there."""
ROW_GROWTH: Final = Fraction(2)
CONTEXTS: Final = 5
"""Contexts below the longest: shorter ones save little, for a step reads all the weights whatever the context."""


NONE_BELOW: Final = Listed(())
"""The limit alone."""


@dataclass(frozen=True, slots=True)
class Ladders:
    """The rule of each dimension."""

    lengths: Ladder
    """Of prompts, or of the parts of prompts that are computed at a time."""
    prefill_rows: Ladder
    decode_rows: Ladder
    contexts: Ladder
    """What decode attends to, and what a row holds when the rest of its prompt is computed."""

    @classmethod
    def linear(cls, pad: int, prefill_rows: int, decode_rows: int) -> Ladders:
        """Take every multiple, and contexts that double."""
        return cls(Linear(pad), Linear(prefill_rows), Linear(decode_rows), Doubling(pad, CONTEXTS))

    @classmethod
    def exponential(cls, pad: int, prefill_rows: int, decode_rows: int) -> Ladders:
        """Take fewer multiples the larger they are."""
        return cls(
            Exponential(pad, LENGTH_GROWTH),
            Exponential(prefill_rows, ROW_GROWTH),
            Exponential(decode_rows, ROW_GROWTH),
            Doubling(pad, CONTEXTS),
        )

    @classmethod
    def listed(cls, file: Path) -> Ladders:
        """Take what a file lists; raises StartupError."""
        sizes = read_bucket_file(file)
        return cls(
            lengths=Listed(sizes["prefill_lengths"]),
            prefill_rows=Listed(sizes["prefill_rows"]),
            decode_rows=Listed(sizes["decode_rows"]),
            contexts=Listed(sizes["decode_contexts"]),
        )

    @classmethod
    def of(cls, settings: Settings) -> Ladders:
        """Return what checked settings ask for; raises StartupError for a wrong file."""
        if settings.bucket_file is not None:
            ladders = cls.listed(Path(settings.bucket_file))
        else:
            make = cls.exponential if settings.bucket_strategy == "exponential" else cls.linear
            ladders = make(
                settings.pad_sequence_to_multiple_of, settings.prefill_batch_bucket_size, settings.batch_bucket_size
            )
        return ladders.with_one_decode if settings.deterministic else ladders

    @property
    def with_one_decode(self) -> Ladders:
        """Take the same, but all rows and the longest context for every decode step."""
        return replace(self, decode_rows=NONE_BELOW, contexts=NONE_BELOW)
