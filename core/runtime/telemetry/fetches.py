"""Counting the pictures that are fetched, by what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from runtime.errors import ImageRefused
from runtime.telemetry.registry import Registry

OUTCOMES: Final = ("ok", "refused", "unreachable", "slow", "large", "not_a_picture", "cancelled")


class Fetches:
    """Counts each fetch once, when it is known how it ended."""

    def __init__(self, registry: Registry) -> None:
        self._ended = registry.counter(
            "runtime_image_fetches", "Fetches of pictures, by what became of them.", outcome=OUTCOMES
        )
        self._bytes = registry.counter("runtime_image_fetch_bytes", "Bytes that came of them, also of those given up.")

    def came(self, count: int) -> None:
        """Record bytes."""
        self._bytes.inc(count)

    def ended(self, outcome: str) -> None:
        """Record the end of a fetch that brought no picture; `outcome` is one of OUTCOMES."""
        self._ended.labels(outcome).inc()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Record the end of a fetch that brought something, by what becomes of it in the block."""
        outcome = "ok"
        try:
            yield
        except ImageRefused:
            outcome = "not_a_picture"
            raise
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.ended(outcome)
