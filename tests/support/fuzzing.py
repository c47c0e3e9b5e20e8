"""What is fuzzed, by name, and the inputs that are kept of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from support import fuzz_intake, fuzz_requests

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
"""A folder for each target; the name of a file says what is special about it."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        fuzz_intake.answer,
        fuzz_intake.data_uri,
        fuzz_intake.header,
        fuzz_intake.picture,
        fuzz_intake.redirect,
        fuzz_intake.url,
        fuzz_requests.chat,
        fuzz_requests.grpc,
        fuzz_requests.grpc_v3,
        fuzz_requests.http,
        fuzz_requests.markdown,
    )
}


def kept(target: str) -> list[Path]:
    """The files of a target."""
    return sorted((CORPUS / target).iterdir())


@st.composite
def mutated(draw: st.DrawFn, target: str, *tokens: bytes) -> bytes:
    """Kept inputs with a few edits; `tokens` are what to put in beside random bytes."""
    data = draw(st.sampled_from([path.read_bytes() for path in kept(target)]))
    pieces: Any = st.binary(max_size=8)
    if tokens:
        pieces = st.sampled_from(tokens) | pieces
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 1, 2, 4, 8, 2**20])))
        data = data[:start] + draw(pieces) + data[end:]
    return data
