"""Running the checks, one after the other on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from runtime.conformance.bench import Bench, NotLoaded
from runtime.conformance.check import Check, Failed, NotApplicable, every_check
from runtime.conformance.report import Outcome, Report, Result, subject_of
from runtime.errors import RuntimeServiceError, StartupError
from runtime.plugins import told

SHORTEST_REASON: Final = 10
"""Characters of a written reason: a word is none."""


def run_checks(bench: Bench, waivers: Mapping[str, str], tell: Callable[[Check], None]) -> Report:
    """Run every check that is not waived; `tell` hears of each before it runs.

    `waivers` are written reasons by the names of checks. Raises StartupError for a waiver of no check, or without a
    reason.
    """
    checks = every_check()
    check_waivers(waivers, checks)
    outcomes = []
    for check in checks:
        tell(check)
        outcomes.append(run_check(bench, check, waivers.get(check.name)))
    return Report(subject_of(bench), outcomes)


def run_check(bench: Bench, check: Check, waiver: str | None) -> Outcome:
    """Run one check, unless a reason is given to waive it; whatever it raises becomes its outcome."""
    if waiver is not None:
        return Outcome(check, Result.WAIVED, waiver, 0.0)
    began = time.perf_counter()
    result, seen = _ran(bench, check)
    return Outcome(check, result, seen, time.perf_counter() - began)


def check_waivers(waivers: Mapping[str, str], checks: Sequence[Check]) -> None:
    """Raise StartupError for a waiver that names no check, or gives no reason."""
    names = [check.name for check in checks]
    for name, reason in waivers.items():
        if name not in names:
            raise StartupError(f"there is no check {name!r} to waive; the checks are {', '.join(names)}")
        if len(reason.strip()) < SHORTEST_REASON:
            raise StartupError(
                f"the waiver of {name} needs a reason of at least {SHORTEST_REASON} characters: "
                f"{name}=why others need not mind"
            )


def _ran(bench: Bench, check: Check) -> tuple[Result, str]:
    try:
        return Result.PASSED, check.run(bench)
    except NotApplicable as reason:
        return Result.NOT_APPLICABLE, str(reason)
    except NotLoaded as reason:
        return Result.NOT_RUN, str(reason)
    except Failed as failure:
        return Result.FAILED, str(failure)
    except RuntimeServiceError as error:
        cause = "" if error.__cause__ is None else f" ({told(error.__cause__)})"
        return Result.FAILED, f"{type(error).__name__}: {error.message}{cause}"
    except KeyboardInterrupt:
        raise
    except Exception as error:
        return Result.FAILED, told(error)
    except BaseException as error:  # no server survives it
        return Result.FAILED, f"{told(error)}, which is no Exception and ends the process"
