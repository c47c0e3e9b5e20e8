"""Compiling a grammar for trial, in a process of its own that may be killed.

The library bounds most of what a grammar can cost, but not all: a few hundred bytes of `multipleOf` or
`patternProperties` keep it busy for minutes. Here it gets a second of processor time and some memory, and a crash of
it ends nobody else. This module is what the child imports, so it must stay light.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Final

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

CPU_SECONDS: Final = 1
MEMORY_BYTES: Final = 2**31
WALL_SECONDS: Final = 10.0
"""For a machine so busy that a second of processor time takes long."""
REFUSED: Final = 3
"""Exit status for a grammar the library does not take."""


class Verdict(Enum):
    """How a trial ended."""

    FINE = "fine"
    REFUSED = "refused"
    TOO_COSTLY = "too costly"


def limits() -> LLParserLimits:
    """Return what one grammar may cost the library, at compilation and at each token.

    Fuel counts steps on regular expressions, about 50 a microsecond at compilation and 14 at a token; items are those
    of the Earley parser, about 20 a microsecond; a state takes up to 2 kB. So a token costs a few milliseconds at
    worst, and a grammar 40 MB.
    """
    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=50_000,
        step_max_items=10_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def rehearsed(grammar: str) -> tuple[Verdict, str]:
    """Compile a grammar of the library's own notation in a child; return the verdict and the library's reason."""
    packages = Path(__file__).parents[2]
    try:
        child = subprocess.run(
            [sys.executable, "-m", "runtime.sampling.rehearsal"],
            input=grammar.encode(),
            capture_output=True,
            timeout=WALL_SECONDS,
            cwd=packages,  # a package found in the current folder would hide ours
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict.TOO_COSTLY, ""
    if child.returncode == 0:
        return Verdict.FINE, ""
    if child.returncode == REFUSED:
        return Verdict.REFUSED, child.stdout.decode(errors="replace")
    return Verdict.TOO_COSTLY, ""


def main() -> int:
    """Be the child: compile what standard input holds and work out the first mask, for a tokenizer of single bytes."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    matcher = LLMatcher(LLTokenizer("byte"), sys.stdin.read(), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    sys.stdout.write(matcher.get_error())
    return REFUSED if matcher.is_error() else 0


if __name__ == "__main__":
    sys.exit(main())
