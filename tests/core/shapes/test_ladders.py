"""Which rule the settings choose."""

from __future__ import annotations

import json
from pathlib import Path

from runtime.config import Settings
from runtime.shapes import Ladders
from runtime.shapes.buckets import Listed


def test_default_is_linear() -> None:
    """By the guide's defaults."""
    assert Ladders.of(Settings.of(model_id="demo")) == Ladders.linear(128, 4, 8)


def test_steps_are_the_settings() -> None:
    """Each of its dimension, with either strategy."""
    steps = {"pad_sequence_to_multiple_of": 64, "prefill_batch_bucket_size": 2, "batch_bucket_size": 3}
    assert Ladders.of(Settings.of(model_id="demo", **steps)) == Ladders.linear(64, 2, 3)
    exponential = Settings.of(model_id="demo", bucket_strategy="exponential", **steps)
    assert Ladders.of(exponential) == Ladders.exponential(64, 2, 3)


def test_file(tmp_path: Path) -> None:
    """Wins over the steps."""
    lists = {"prefill_lengths": [128], "prefill_rows": [1], "decode_rows": [2], "decode_contexts": [512]}
    (tmp_path / "buckets.json").write_text(json.dumps(lists))
    settings = Settings.of(model_id="demo", bucket_strategy="file", bucket_file=str(tmp_path / "buckets.json"))
    assert Ladders.of(settings) == Ladders(Listed((128,)), Listed((1,)), Listed((2,)), Listed((512,)))
