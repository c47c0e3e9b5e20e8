"""The kit as a test module: `pytest --pyargs runtime.conformance --backend X`."""

from __future__ import annotations

import pytest

from runtime import demo
from runtime.conformance.bench import Bench, NotLoaded
from runtime.conformance.check import Check, Failed, NotApplicable, every_check
from runtime.conformance.loading import LIMITS
from runtime.conformance.oracle import Oracle
from runtime.conformance.suite import check_waivers
from runtime.conformance.values import pairs_of, values_of
from runtime.errors import StartupError
from runtime.model import read_model
from runtime.plugins import backend_named

CHECKS = every_check()


@pytest.fixture(scope="session")
def waivers(pytestconfig: pytest.Config) -> dict[str, str]:
    """Written reasons by the names of checks."""
    try:
        waived = pairs_of(pytestconfig.getoption("--waive"))
        check_waivers(waived, CHECKS)
    except StartupError as error:
        raise pytest.UsageError(error.message) from error
    return waived


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config) -> Bench:
    """The backend that the command line names."""
    name = pytestconfig.getoption("--backend")
    if name is None:
        raise pytest.UsageError("name the backend: pytest --pyargs runtime.conformance --backend NAME")
    try:
        found = backend_named(name)
        options = values_of(found.options, pairs_of(pytestconfig.getoption("--backend-option")))
    except StartupError as error:
        raise pytest.UsageError(error.message) from error
    model = read_model(demo.MODEL)
    return Bench(found, model, Oracle(model, LIMITS), options, pytestconfig.getoption("--requests"))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_conformance(bench: Bench, check: Check, waivers: dict[str, str]) -> None:
    """Run one check; one that is waived or not applicable is skipped with the reason."""
    if check.name in waivers:
        pytest.skip(f"waived: {waivers[check.name]}")
    try:
        check.run(bench)
    except NotApplicable as reason:
        pytest.skip(f"not applicable: {reason}")
    except (Failed, NotLoaded) as failure:
        pytest.fail(f"{failure}\nproves: {check.proves}\nusually broken by: {check.breaks}", pytrace=False)
