"""Knobs: whether to rely on what is computed."""

from __future__ import annotations

from typing import Final

from runtime.knobs.knob import WORKER, Knob

TRUST: Final = (
    Knob(
        "deterministic",
        "RUNTIME_DETERMINISTIC",
        bool,
        False,
        "Compute every row in the same shapes whatever else runs, so that a reply does not depend on its neighbours; "
        "slower; see docs/deterministic.md.",
        WORKER,
    ),
    Knob(
        "shadow",
        "RUNTIME_SHADOW",
        str,
        None,
        "Backend that computes some prompts and replies again, to compare: cpu_reference. Its weights and one row come "
        "on top, in the memory of the host, and the pictures of the last prompt of every slot; see docs/shadow.md.",
        WORKER,
    ),
    Knob(
        "shadow_rate",
        "RUNTIME_SHADOW_RATE",
        float,
        0.01,
        "Share of the prompts that the shadow follows; those that it has no time for are left out.",
        WORKER,
        lowest=0,
        highest=1,
    ),
)
