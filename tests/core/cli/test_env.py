"""`runtime env`; how flags and variables are resolved is in tests/core/test_config.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runtime.cli import main
from runtime.compatibility import FOREIGN_FLAGS, ForeignFlag, known_variables
from runtime.knobs import KNOBS, SHAPES
from runtime_hpu.options import OPTIONS as HPU_OPTIONS
from support import guide
from support.options import OPTIONS
from support.plugin import install_plugin, static_plugin

DEVICE = {knob.name for knob in HPU_OPTIONS}


def run(*arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> Result:
    """The command, with no variable we know in the environment but those given."""
    cleared: dict[str, str | None] = dict.fromkeys([*known_variables(), *(knob.environment for knob in OPTIONS)])
    return CliRunner(env={**cleared, **environment}).invoke(main, ["env", *arguments])


def entries(result: Result) -> dict[str, dict[str, Any]]:
    """What the command printed as JSON, by name."""
    assert result.exit_code == 0, result.output
    return {entry["name"]: entry for entry in json.loads(result.stdout)}


def test_every_knob() -> None:
    """In the order of the tables."""
    assert list(entries(run("--json"))) == [knob.name for knob in (*KNOBS, *OPTIONS)]


def test_sources() -> None:
    """Of a flag, a variable, a default, and what follows from the model."""
    shown = entries(run("--json", "--model-id", "demo", "--max-images", "3", environment={"MAX_BEST_OF": "7"}))
    told = {name: (entry["value"], entry["source"]) for name, entry in shown.items()}
    assert told["max_images"] == (3, "flag")
    assert told["max_best_of"] == (7, "environment MAX_BEST_OF")
    assert told["port"] == (3000, "default")
    assert told["max_total_tokens"] == (2048, "derived")
    assert told["max_batch_total_tokens"] == (8 * 2048, "derived")


def test_command_of_the_guide(tmp_path: Path) -> None:
    """Four sequences decode together; what it sets for a device is told to have no effect."""
    arguments = ["--json", "--model-id", guide.long_model(tmp_path), "--backend", "cpu_reference", *guide.FLAGS]
    result = run(*arguments, environment=guide.VARIABLES)
    shown = entries(result)
    assert (shown["max_batch_size"]["value"], shown["max_batch_size"]["source"]) == (4, "derived")
    assert shown["max_batch_prefill_tokens"]["value"] == 16384
    assert (shown["ignore_eos"]["value"], shown["ignore_eos"]["effective"]) == (True, True)
    assert (shown["batch_bucket_size"]["value"], shown["batch_bucket_size"]["effective"]) == (1, False)
    assert shown["limit_hpu_graph"]["value"] is True
    assert {shown[name]["reason"] for name in DEVICE} == {"backend cpu_reference has no such option"}
    assert result.stderr == ""


@pytest.mark.parametrize("static", [False, True])
def test_buckets_are_for_static_shapes(static: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other backend heeds none of these settings, and the reason is told."""
    name = "boxes" if static else "bags"
    monkeypatch.syspath_prepend(install_plugin(tmp_path, name, name, source=static_plugin(name, static)))
    shown = entries(run("--json", "--model-id", "demo", "--backend", name))
    for knob in SHAPES:
        assert shown[knob.name]["effective"] is static
        assert shown[knob.name]["reason"] == ("" if static else "backend bags takes batches of any shape")


def test_backend_that_was_found() -> None:
    """`auto` is told by the name it comes to; a backend that was asked for as it was given."""
    for arguments, value, source in (([], "cpu", "derived"), (["--backend", "cpu_reference"], "cpu_reference", "flag")):
        entry = entries(run("--json", *arguments))["backend"]
        assert (entry["value"], entry["source"], entry["effective"]) == (value, source, True)


def test_deterministic() -> None:
    """What it turns off has no effect, with the reason."""
    arguments = ["--json", "--model-id", "demo", "--backend", "cpu", "--deterministic", "--prefill-chunk", "64"]
    shown = entries(run(*arguments))
    for name in ("prefix_reuse", "prefill_chunk"):
        told = "with --deterministic every prompt is computed whole, from its start, and alone"
        assert (shown[name]["effective"], shown[name]["reason"]) == (False, told)


def test_without_a_model() -> None:
    """What follows from it is left open; the rest is shown."""
    shown = entries(run("--json"))
    assert (shown["max_total_tokens"]["value"], shown["max_total_tokens"]["source"]) == (None, "derived")


def test_what_has_no_effect() -> None:
    """With the reason."""
    shown = entries(run("--json", "--model-id", "demo", "--backend", "abacus"))
    ineffective = {name for name, entry in shown.items() if not entry["effective"]}
    assert ineffective == {"revision", "huggingface_hub_cache", "backend", "otlp_service_name", "shadow_rate"}
    assert all(shown[name]["reason"] for name in ineffective)


@pytest.mark.parametrize("form", [["--json"], []], ids=["json", "table"])
def test_secrets_are_masked(form: list[str]) -> None:
    """Whether they come from a flag or from the environment."""
    for result in (run(*form, "--api-key", "hunter2"), run(*form, environment={"API_KEY": "hunter2"})):
        assert result.exit_code == 0
        assert "hunter2" not in result.output
        assert "********" in result.output


def test_table() -> None:
    """A heading, and one line each."""
    heading, *lines = run("--model-id", "demo", environment={"PORT": "80"}).stdout.splitlines()
    assert heading.split() == ["NAME", "VALUE", "SOURCE", "EFFECTIVE", "MEANING"]
    assert len(lines) == len([*KNOBS, *OPTIONS])
    (port,) = [line for line in lines if line.startswith("port ")]
    assert port.split()[:5] == ["port", "80", "environment", "PORT", "yes"]


def test_contradiction_is_one_line() -> None:
    """As when `runtime serve` is given it."""
    result = run("--max-input-tokens", "9", "--max-total-tokens", "9")
    told = "runtime env: --max-input-tokens 9 must be below --max-total-tokens 9\n"
    assert (result.exit_code, result.stderr) == (1, told)


@pytest.mark.parametrize("flag", FOREIGN_FLAGS, ids=lambda flag: flag.flag)
def test_flags_of_others(flag: ForeignFlag) -> None:
    """Refused or ignored, with the reason; so are their variables."""
    ways: list[tuple[list[str], dict[str, str], str]] = [
        ([flag.flag, "4"] if flag.takes_value else [flag.flag], {}, flag.flag)
    ]
    if flag.environment is not None:
        ways.append(([], {flag.environment: "4" if flag.takes_value else "true"}, flag.environment))
    for arguments, environment, name in ways:
        result = run(*arguments, environment=environment)
        assert result.exit_code == (2 if flag.refused else 0)
        start = f"Error: {name} is not supported: " if flag.refused else f"warning: {name} has no effect: "
        assert result.stderr.splitlines()[-1].startswith(start + flag.reason)
    for value in flag.harmless:
        assert run(flag.flag, value).stderr == ""
