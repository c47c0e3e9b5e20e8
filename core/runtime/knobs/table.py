"""All knobs, in the groups and the order of the documentation."""

from __future__ import annotations

from typing import Final

from runtime.knobs.batching import BATCHING
from runtime.knobs.model import MODEL
from runtime.knobs.requests import REQUESTS
from runtime.knobs.server import SERVER
from runtime.knobs.shapes import SHAPES
from runtime.knobs.trust import TRUST

GROUPS: Final = {
    "Model": MODEL,
    "Server": SERVER,
    "Batching": BATCHING,
    "Shapes": SHAPES,
    "Requests": REQUESTS,
    "Trust": TRUST,
}

KNOBS: Final = tuple(knob for knobs in GROUPS.values() for knob in knobs)
