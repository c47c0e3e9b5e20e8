"""The compiler of the demo's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from runtime import demo
from runtime.sampling.grammar import GrammarCompiler
from support.serving import MODEL


@pytest.fixture(scope="session")
def compiler() -> Iterator[GrammarCompiler]:
    """One for all tests, as in a server."""
    made = GrammarCompiler((demo.MODEL / "tokenizer.json").read_text(), MODEL.eos_ids)
    yield made
    made.close()
