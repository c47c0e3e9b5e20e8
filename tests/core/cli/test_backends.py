"""`runtime backends`; plugins that cannot be used are in tests/core/test_plugins.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from runtime import __version__
from runtime.cli import main


@pytest.fixture(autouse=True)
def _arithmetic(arithmetic_plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second backend beside our own."""
    monkeypatch.syspath_prepend(arithmetic_plugin)


def test_table() -> None:
    """A heading and one line for each, in columns."""
    result = CliRunner().invoke(main, ["backends"])
    assert result.exit_code == 0
    heading, arithmetic, cpu, reference, *_elsewhere = result.output.splitlines()
    assert heading.split() == ["NAME", "VERSION", "CONTRACT", "AVAILABLE"]
    assert arithmetic.split(maxsplit=5) == [
        "arithmetic", "arithmetic", "1.0", "~=1.0", "yes", "sums in place of a model, for tests"
    ]  # fmt: skip
    assert cpu.split()[:5] == ["cpu", "vlm-runtime", __version__, "~=1.1", "yes"]
    assert reference.split()[:5] == ["cpu_reference", "vlm-runtime", __version__, "~=1.1", "yes"]
    for column in ("NAME", "VERSION", "CONTRACT", "AVAILABLE"):
        place = heading.index(column)
        assert all(line[place - 1 : place] in ("", " ") and line[place] != " " for line in (arithmetic, cpu, reference))


def test_json() -> None:
    """Every fact, under a name of its own."""
    result = CliRunner().invoke(main, ["backends", "--json"])
    arithmetic, cpu, reference, *_elsewhere = json.loads(result.output)
    assert arithmetic == {
        "name": "arithmetic",
        "summary": "sums in place of a model, for tests",
        "distribution": "arithmetic",
        "version": "1.0",
        "contract": "~=1.0",
        "available": True,
        "reason": "",
        "details": {"device": "cpu"},
    }
    assert [cpu["name"], reference["name"]] == ["cpu", "cpu_reference"]
    assert reference["details"]["device"] == "cpu"
