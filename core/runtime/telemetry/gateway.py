"""Prometheus metrics of the gateway, which outlive its workers; told in `docs/monitoring.md`."""

from __future__ import annotations

from typing import Final

from runtime.telemetry.registry import Registry

RESTART_REASONS: Final = ("ended", "stuck")


class GatewayMetrics:
    """What happened to workers and to the replies that ran on them; used on the event loop."""

    def __init__(self) -> None:
        self._registry = registry = Registry()
        self.restarts = registry.counter(
            "runtime_worker_restarts",
            "Workers started again, by what became of the one before.",
            reason=RESTART_REASONS,
        )
        self.resumed = registry.counter("runtime_replies_resumed", "Times a reply went on in another worker or step.")
        self.replayed_tokens = registry.counter("runtime_tokens_replayed", "Tokens computed again for such replies.")
        self.quarantined = registry.counter(
            "runtime_requests_quarantined", "Requests given up because they failed every time."
        )

    def exposition(self) -> bytes:
        """Return them in Prometheus' text format."""
        return self._registry.exposition()
