"""What became of the checks: outcomes, and the facts that make a report something to cite."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

import torch

import runtime as package
from runtime.backend import CONTRACT_VERSION
from runtime.conformance.bench import Bench
from runtime.conformance.check import Check

FORMAT: Final = 1
"""Of the JSON; raised when a field changes its meaning."""


class Result(Enum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    """Because the backend did not load."""
    NOT_APPLICABLE = "not applicable"
    WAIVED = "waived"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check and what became of it."""

    check: Check
    result: Result
    seen: str
    """What was seen, in a few words; of a waived one the written reason."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes, and what they are about."""

    subject: Mapping[str, Any]
    """Model, backend, versions, options and limits."""
    outcomes: Sequence[Outcome]

    @property
    def conforms(self) -> bool:
        """Whether no check failed, waived ones aside."""
        return not any(outcome.result in (Result.FAILED, Result.NOT_RUN) for outcome in self.outcomes)

    @property
    def digest(self) -> str:
        """64 bits, in hex, over what the report is about; equal for the same backend, model, versions and options."""
        return hashlib.sha256(json.dumps(self.subject, sort_keys=True).encode()).hexdigest()[:16]

    def count(self, result: Result) -> int:
        """Return how many checks came to that."""
        return sum(outcome.result is result for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Return everything, for machines."""
        return {
            "format": FORMAT,
            "conforms": self.conforms,
            "digest": self.digest,
            "subject": self.subject,
            "checks": [
                {
                    "name": outcome.check.name,
                    "theme": outcome.check.theme,
                    "result": outcome.result.value,
                    "seen": outcome.seen,
                    "seconds": round(outcome.seconds, 3),
                    "proves": outcome.check.proves,
                    "breaks": outcome.check.breaks,
                }
                for outcome in self.outcomes
            ],
        }


def subject_of(bench: Bench) -> dict[str, Any]:
    """Return what a report is about."""
    found, loaded = bench.found, bench.loaded
    return {
        "backend": {
            "name": found.name,
            "distribution": found.distribution,
            "version": found.version,
            "contract": found.contract,
            "options": dict(sorted(bench.options.items())),
            "details": {**found.availability.details, **(loaded.capacity.details if loaded else {})},
        },
        "model": {"name": "demo", "digest": bench.model.digest},
        "versions": {
            "runtime": package.__version__,
            "contract": CONTRACT_VERSION,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "limits": {name: value for name, value in asdict(loaded.limits).items() if name != "options"} if loaded else {},
        "plan": asdict(loaded.plan) if loaded else {},
    }
