"""`runtime conformance` for an accelerator, on its virtual device: in processes of their own."""

from __future__ import annotations

import pytest
from support.virtual_hpu import Release, run_script

MEMORY = str(2**34)
"""Of the device, bytes: the kit keeps two loaded models and their graphs."""


@pytest.mark.parametrize(
    ("release", "words"),
    [("1.19", ("--dtype", "float32")), pytest.param("1.23", (), marks=pytest.mark.long)],
)
def test_backend_conforms(release: Release, words: tuple[str, ...]) -> None:
    """In fp32, in which it must be the oracle, and in bf16, in which it may round as the oracle does."""
    command = ("conformance", "--backend", "hpu", "--requests", "32", *words)
    said = run_script(f"from runtime.cli import main; main({command!r})", release, "lazy", VIRTUAL_HPU_MEMORY=MEMORY)
    assert "conforms: 34 passed, 1 not applicable" in said
    assert "failed" not in said
