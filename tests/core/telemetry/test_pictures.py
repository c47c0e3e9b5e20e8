"""The stages of pictures."""

from __future__ import annotations

from runtime.telemetry.pictures import StageClock


def test_each_stage_begins_where_the_last_one_ended() -> None:
    """Nothing is counted twice or left out."""
    times = iter([10.0, 10.5, 12.0, 12.25])
    clock = StageClock(lambda: next(times))
    for stage in ("fetch", "decode", "tile"):
        clock.end(stage)
    assert clock.seconds == {"fetch": 0.5, "decode": 1.5, "tile": 0.25}
