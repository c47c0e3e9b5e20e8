"""What every error tells a caller who might try again."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded, RuntimeServiceError


def classes(root: type[RuntimeServiceError] = RuntimeServiceError) -> Iterator[type[RuntimeServiceError]]:
    """All kinds of errors."""
    yield root
    for each in root.__subclasses__():
        yield from classes(each)


@pytest.mark.parametrize("kind", sorted(set(classes()), key=lambda kind: kind.__name__))
def test_only_what_may_succeed_later_says_when(kind: type[RuntimeServiceError]) -> None:
    """Whatever time is known; of the others a client that tries again only makes a load of itself."""
    assert (kind("text").retry_seconds is not None) is kind.retryable
    assert kind("text", retry_after=7).retry_seconds == (7 if kind.retryable else None)


def test_who_may_be_asked_again() -> None:
    """Where the server has no room or is not there; not where the request or the model is at fault."""
    assert {kind for kind in (Overloaded, NotReady, InvalidRequest, BackendError) if kind.retryable} == {
        Overloaded,
        NotReady,
    }


@pytest.mark.parametrize(
    ("known", "told"),
    [(None, 5), (0, 1), (-3, 1), (0.2, 1), (1, 1), (1.01, 2), (41.5, 42), (600, 600), (1e9, 600), (math.inf, 600)],
)
def test_seconds_are_whole_and_bounded(known: float | None, told: int) -> None:
    """Rounded up, so that nobody comes too early; 5 where nothing is known."""
    assert Overloaded("full", known).retry_seconds == told
