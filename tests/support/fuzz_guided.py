"""Fuzzing guided by coverage: `python -m support.fuzz_guided TARGET SECONDS`, where atheris is installed.

Begins with the kept inputs; the one that fails is written to the current folder, from where it can be kept.
"""

from __future__ import annotations

import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["runtime"]):
    from support.fuzzing import CORPUS, TARGETS


def main(target: str, seconds: str) -> None:
    """Fuzz one of the targets."""
    with tempfile.TemporaryDirectory() as found:
        options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *options, found, str(CORPUS / target)], TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
