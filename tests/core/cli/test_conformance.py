"""`runtime conformance`; what it checks is in tests/core/conformance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from runtime.cli import main
from runtime.conformance.check import every_check
from support.plugin import install_plugin

BROKEN = """
from runtime import hookimpl
from support.broken import CountsNothing, found

@hookimpl
def runtime_backends():
    return [found(CountsNothing, ">=1.0").spec]
"""
ONLY = ("spec", "stats")
"""Checks that run here, for they take no time."""
WAIVERS = [
    word for check in every_check() if check.name not in ONLY for word in ("--waive", f"{check.name}=not looked at")
]


@pytest.fixture(autouse=True)
def _broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend with two mistakes."""
    monkeypatch.setenv("COLUMNS", "20")  # which must not cut a table that goes to no terminal
    monkeypatch.syspath_prepend(install_plugin(tmp_path, "broken", "broken_by_two_mistakes", BROKEN))


def test_backend_that_conforms(tmp_path: Path) -> None:
    """Ends with 0; the report has every check, also those that were waived."""
    report = tmp_path / "report.json"
    result = CliRunner().invoke(main, ["conformance", "--backend", "cpu", *WAIVERS, "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert "conforms: 2 passed, 33 waived; digest" in result.output
    facts = json.loads(report.read_text())
    assert facts["conforms"] is True
    assert facts["digest"] in result.output
    assert facts["subject"]["backend"]["name"] == "cpu"
    assert [check["name"] for check in facts["checks"]] == [check.name for check in every_check()]
    waived = next(check for check in facts["checks"] if check["name"] == "slots")
    assert (waived["result"], waived["seen"]) == ("waived", "not looked at")


def test_backend_with_mistakes() -> None:
    """Ends with 1, and tells of each what it proves and what usually breaks it."""
    result = CliRunner().invoke(main, ["conformance", "--backend", "broken", *WAIVERS])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    lines = result.output.splitlines()
    assert any(line.split()[:2] == ["stats", "failed"] for line in lines), result.output
    assert "stats hit_rate is nan" in lines
    assert (
        lines.count(
            "  usually broken by: A contract such as `>=1.0`, which claims versions whose meaning nobody knows yet."
        )
        == 1
    )
    assert lines[-1].startswith("broken of broken 1.0 does not conform: 2 failed, 33 waived; digest ")


def test_options_of_the_backend(tmp_path: Path) -> None:
    """Are those of `runtime serve`, and in the report."""
    report = tmp_path / "report.json"
    words = ["--dtype", "bfloat16", "--threads", "1", "--json", str(report)]
    result = CliRunner().invoke(main, ["conformance", "--backend", "cpu", *WAIVERS, *words])
    assert result.exit_code == 0, result.output
    options = json.loads(report.read_text())["subject"]["backend"]["options"]
    assert (options["dtype"], options["threads"]) == ("bfloat16", 1)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--backend", "nothing"], 1, "there is no backend 'nothing'"),
        (["--backend", "cpu", "--waive", "slots"], 2, "'slots' has no reason; write NAME=REASON."),
        (["--backend", "cpu", "--waive", "slots=because"], 1, "at least 10 characters"),
        (["--backend", "cpu", "--waive", "slot=written in a hurry"], 1, "there is no check 'slot' to waive"),
        (["--backend", "cpu", "--requests", "0"], 2, "--requests"),
        (["--backend", "cpu", "--dtype", "int8"], 2, "--dtype"),
        ([], 2, "--backend"),
    ],
)
def test_wrong_command_line(words: list[str], status: int, text: str) -> None:
    """One line, which names what is wrong."""
    result = CliRunner().invoke(main, ["conformance", *words])
    assert result.exit_code == status
    assert text in result.output
