"""Buckets chosen by hand: a JSON object with one ascending list of sizes for each dimension.

    {
      "prefill_lengths": [128, 512, 2048, 4096],
      "prefill_rows": [1, 4],
      "decode_rows": [1, 2, 4],
      "decode_contexts": [1024, 8192]
    }

Sizes that reach a limit of the server are left out, and the limit itself is always the last, so that a file serves
with any limits and nothing that is admitted lacks a shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from runtime.errors import StartupError
from runtime.shapes.buckets import MAX_BUCKETS

KEYS: Final = ("prefill_lengths", "prefill_rows", "decode_rows", "decode_contexts")
MAX_BYTES: Final = 2**20
MAX_SIZE: Final = 2**30


def read_bucket_file(file: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the list of each of `KEYS`; raises StartupError, which names the key and what it must be."""
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        raise StartupError("--bucket-file cannot be read; check that it exists and may be read") from None
    if len(text) > MAX_BYTES:
        raise StartupError(f"--bucket-file has more than {MAX_BYTES} bytes; list fewer sizes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise StartupError("--bucket-file is not valid JSON") from None
    if not isinstance(values, dict) or values.keys() != set(KEYS):
        raise StartupError(f"--bucket-file must hold an object with exactly these lists: {', '.join(KEYS)}")
    return {key: _sizes(key, values[key]) for key in KEYS}


def _sizes(key: str, value: object) -> tuple[int, ...]:
    """Return a checked list; to Python, but not to JSON, true is a number."""
    accepted = f"a list of 1 to {MAX_BUCKETS - 1} ascending whole numbers from 1 to {MAX_SIZE}"
    if not isinstance(value, list) or not 0 < len(value) < MAX_BUCKETS:
        raise StartupError(f"--bucket-file: {key} must be {accepted}")
    for before, size in pairwise((0, *value)):
        if type(size) is not int or not before < size <= MAX_SIZE:
            raise StartupError(f"--bucket-file: {key} has {json.dumps(size)[:40]} in it; it must be {accepted}")
    return tuple(value)
