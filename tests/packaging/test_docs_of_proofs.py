"""Every route, gRPC method, knob and hook has a test that shows its effect, and docs/proofs.md lists them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "docs.py"))
CLAIMS: dict[str, list[str]] = DOCS["claims"]()
PROOFS: dict[str, list[tuple[Path, str]]] = DOCS["proofs"]()


@pytest.mark.parametrize("claim", [claim for kind in CLAIMS.values() for claim in kind])
def test_has_a_proof(claim: str) -> None:
    """Mark the best test there is with `@pytest.mark.proves`, or write one."""
    assert PROOFS.get(claim), f"no test is marked `@pytest.mark.proves({claim!r})`"


def test_marks_name_what_there_is() -> None:
    """No mark outlives its route, method, knob or hook."""
    assert PROOFS.keys() - {claim for kind in CLAIMS.values() for claim in kind} == set()


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        ("routes", "GET /"),
        ("methods", "runtime.v1.Generation/Generate"),
        ("settings", "--model-id"),
        ("hooks", "hook decode"),
    ],
)
def test_claims_are_found(kind: str, example: str) -> None:
    """An empty list would prove everything."""
    assert example in CLAIMS[kind]
