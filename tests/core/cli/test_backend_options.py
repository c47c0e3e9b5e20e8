"""Options that a backend declares: given, told, and handed to the worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runtime.cli import main
from runtime.compatibility import known_variables
from support.command_line import settings_of
from support.plugin import install_plugin

SOURCE = """
from runtime import hookimpl
from runtime.backend import Availability, BackendSpec, Knob

@hookimpl
def runtime_backends():
    probe, load = lambda: Availability(True), lambda model, limits: None
    options = (
        Knob("beads", "ABACUS_BEADS", int, 10, "Beads of a wire.", highest=20),
        Knob("wire", "ABACUS_WIRE", str, (), "Wires.", repeatable=True),
        Knob("shiny", "ABACUS_SHINY", bool, True, "Whether it shines."),
        Knob("quantize", "QUANTIZE", str, None, "Lighter beads.", choices=("int8",)),
        Knob("json", "ABACUS_JSON", str, None, "The name of a flag that some commands have."),
        Knob("port", "ABACUS_PORT", int, 7, "The name of a setting of ours."),
        Knob("dtype", "DTYPE", str, "decimal", "Type to compute in."),
    )
    return [BackendSpec("abacus", "beads", "~=1.0", probe, load, options=options)]
"""


@pytest.fixture(autouse=True)
def _abacus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend with options."""
    monkeypatch.syspath_prepend(install_plugin(tmp_path, "abacus", "abacus_plugin", SOURCE))


def run(*arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> Result:
    """A command, with no variable we know in the environment but those given."""
    cleared: dict[str, str | None] = dict.fromkeys(known_variables())
    return CliRunner(env={**cleared, **environment}).invoke(main, arguments)


def entries(*arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> dict[str, dict[str, Any]]:
    """What `runtime env` tells, by name."""
    result = run("env", "--json", "--model-id", "demo", *arguments, environment=environment)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return {entry["name"]: entry for entry in json.loads(result.stdout)}


def test_flag_and_variable() -> None:
    """As for any other setting: the flag wins, and there is a default."""
    for arguments, environment, value, source in (
        (["--beads", "7"], {"ABACUS_BEADS": "8"}, 7, "flag"),
        ([], {"ABACUS_BEADS": "8"}, 8, "environment ABACUS_BEADS"),
        ([], {}, 10, "default"),
    ):
        entry = entries("--backend", "abacus", *arguments, environment=environment)["beads"]
        assert (entry["value"], entry["source"], entry["effective"]) == (value, source, True)


def test_values_have_bounds() -> None:
    """The line names the flag."""
    result = run("env", "--beads", "21")
    assert result.exit_code == 2
    assert "Invalid value for '--beads'" in result.stderr
    assert "21 is not from 1 to 20" in result.stderr


def test_option_of_another_backend() -> None:
    """Is told to have no effect."""
    entry = entries("--backend", "cpu_reference", "--beads", "7")["beads"]
    assert (entry["value"], entry["effective"]) == (7, False)
    assert entry["reason"] == "backend cpu_reference has no such option"


def test_option_of_two_backends() -> None:
    """Its default is that of the chosen one."""
    assert entries("--backend", "abacus")["dtype"]["value"] == "decimal"
    assert entries("--backend", "cpu")["dtype"]["value"] is None


def test_names_of_ours_stay_ours() -> None:
    """No backend takes a flag away from a command, but one of TGI's that nobody serves."""
    shown = entries("--backend", "abacus", "--port", "80")
    assert shown["port"]["meaning"] == "Port of the HTTP API; 0 for any free one."
    assert shown["quantize"]["effective"]
    assert "json" not in shown
    assert "--json TEXT" in run("serve", "--help").output


def test_flag_of_tgi_that_a_backend_serves() -> None:
    """Is refused no more."""
    assert entries("--backend", "abacus", "--quantize", "int8")["quantize"]["value"] == "int8"


def test_what_was_given_reaches_the_worker() -> None:
    """As the command line of the gateway has it, and nothing that was left out."""
    words = ["--model-id", "demo", "--beads", "7", "--wire", "a", "--wire", "b", "--no-shiny"]
    settings = settings_of(*words, DTYPE="float32")
    assert settings.backend_options == {"beads": 7, "wire": ("a", "b"), "shiny": False, "dtype": "float32"}
    arguments = settings.arguments("worker")
    assert settings_of(*arguments).backend_options == settings.backend_options
    assert settings.arguments("gateway") == settings_of("--model-id", "demo").arguments("gateway")
    assert settings_of("--model-id", "demo").backend_options == {}


def test_its_variables_are_no_misspellings() -> None:
    """Though they may be near to one of ours; those that are near to its own are told as before."""
    known = {"ABACUS_BEADS": "7", "MAX_BATHC_SIZE": "9"}
    result = run("env", "--model-id", "demo", environment=known)
    assert result.stderr.splitlines() == [
        "warning: MAX_BATHC_SIZE has no effect: there is no such variable; did you mean MAX_BATCH_SIZE?"
    ]
