"""Knobs: how a backend of static shapes has batches padded; no other backend heeds them."""

from __future__ import annotations

from typing import Final

from runtime.knobs.knob import WORKER, Knob

SHAPES: Final = (
    Knob(
        "pad_sequence_to_multiple_of",
        "PAD_SEQUENCE_TO_MULTIPLE_OF",
        int,
        128,
        "Pad prompts to a multiple, in tokens, and at most to --max-input-tokens.",
        WORKER,
    ),
    Knob(
        "prefill_batch_bucket_size",
        "PREFILL_BATCH_BUCKET_SIZE",
        int,
        4,
        "Round the prompts of one prefill up to a multiple, as far as the limits go.",
        WORKER,
    ),
    Knob(
        "batch_bucket_size",
        "BATCH_BUCKET_SIZE",
        int,
        8,
        "Round the sequences that decode together up to a multiple, as far as the limits go.",
        WORKER,
    ),
    Knob(
        "bucket_strategy",
        "BUCKET_STRATEGY",
        str,
        "linear",
        "How buckets grow: `linear`: every multiple; `exponential`: lengths by a quarter, rows twofold; `file`: as "
        "--bucket-file lists them.",
        WORKER,
        choices=("linear", "exponential", "file"),
    ),
    Knob("bucket_file", "BUCKET_FILE", str, None, "JSON file with the buckets of the strategy `file`.", WORKER),
    Knob("warmup_enabled", "WARMUP_ENABLED", bool, True, "Run every shape before the first request.", WORKER),
)
