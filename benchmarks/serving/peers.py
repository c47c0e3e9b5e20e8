"""What other servers reached: measured once, elsewhere, and not in the run whose table they are printed under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MEASURED: Final = (
    "measured before, on 22 November 2026, on 2 pinned cores of an AMD EPYC (Zen 5) with other weights of geometry "
    "small; bounds there: 70 GB/s and 790 GFLOP/s"
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Shares of the bounds of that day's machine."""

    name: str
    decode_w3x1: float
    """Of the decode bound, one text stream."""
    aggregate_w2: float | None
    """Of the aggregate bound; None where its work was not the same."""
    aggregate_w3x8: float


PEERS: Final = (
    Peer("llama.cpp b11434, bf16", 0.62, None, 0.45),  # it makes half as many tokens of a picture
    Peer("OpenVINO GenAI 2026.4, bf16", 0.50, 0.65, 0.57),
    Peer("vLLM-CPU 0.32, tuned", 0.36, 0.71, 0.62),
    Peer("vLLM-CPU 0.32 + zentorch", 0.39, 0.74, 0.60),
    Peer("transformers 5.23 generate", 0.17, 0.34, 0.25),
)
"""The better figure where there were two."""
