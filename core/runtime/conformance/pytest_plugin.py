"""The options of `pytest --pyargs runtime.conformance`.

pytest loads this in every session of an environment where vlm-runtime is installed, so it does nothing in any other.
"""

from __future__ import annotations

from typing import Final

import pytest

PACKAGE: Final = "runtime.conformance"


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the options when the command line asks for the kit; at this point pytest still takes some."""
    if not any(word.split("::")[0] == PACKAGE for word in args):
        return
    group = parser.getgroup("conformance", "the conformance kit of vlm-runtime")
    group.addoption("--backend", help="backend to check")
    group.addoption(
        "--backend-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option that the backend declares, by its name; may be repeated",
    )
    group.addoption(
        "--waive",
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="leave out a check, for a written reason; may be repeated",
    )
    group.addoption("--requests", type=int, default=500, help="requests of the check that memory is flat")
