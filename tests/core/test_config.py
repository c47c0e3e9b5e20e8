"""The table of knobs, and the values that come out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from runtime.cli.options import knob_options
from runtime.config import KNOBS, Knob, Reader, Settings

READERS: tuple[Reader, Reader] = ("gateway", "worker")
NUMBERS = [knob for knob in KNOBS if knob.type is not str]


@click.command
@knob_options(*READERS)
def show(**values: Any) -> None:
    """Print what the options came to."""
    click.echo(json.dumps(asdict(Settings.of(**values))))


@click.command
@knob_options("worker")
def show_worker(**values: Any) -> None:
    """Print what a worker's options came to."""
    click.echo(json.dumps(values))


def run(
    *arguments: str, command: click.Command = show, environment: Mapping[str, str] = MappingProxyType({})
) -> Result:
    """The command with every twin out of the environment, but for those given."""
    cleared = {knob.environment: None for knob in KNOBS}
    return CliRunner(env={**cleared, **environment}).invoke(command, arguments)


def values_of(result: Result) -> dict[str, Any]:
    """What the command printed."""
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = json.loads(result.output)
    return values


def sample(knob: Knob) -> str:
    """A value that is not the default."""
    return "a text" if knob.type is str else "7"


def test_every_knob_is_a_setting() -> None:
    """And the other way round, in the same order."""
    assert [field.name for field in fields(Settings)] == [knob.name for knob in KNOBS]


def test_names_are_unique() -> None:
    """Of fields, flags and environment twins."""
    for name in ("name", "flag", "environment"):
        assert len({getattr(knob, name) for knob in KNOBS}) == len(KNOBS)


def test_every_knob_has_a_reader_and_a_meaning() -> None:
    """A knob nobody reads would be a lie."""
    for knob in KNOBS:
        assert knob.readers
        assert set(knob.readers) <= set(READERS)
        assert knob.meaning.endswith(".")


def test_defaults_are_those_of_the_table() -> None:
    """For flags left out and for settings left out."""
    values = values_of(run("--model-id", "demo"))
    assert values == asdict(Settings.of(model_id="demo"))
    assert values == {**{knob.name: knob.default for knob in KNOBS}, "model_id": "demo"}


def test_defaults_are_within_their_bounds() -> None:
    """A default can be given as a flag."""
    for knob in NUMBERS:
        assert knob.default is None or knob.lowest <= float(knob.default) <= knob.highest


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_flag_and_environment_twin(knob: Knob) -> None:
    """Either sets the knob, and the flag wins."""
    others = [] if knob.required else ["--model-id", "demo"]
    value = knob.type(sample(knob))
    assert value != knob.default
    assert values_of(run(*others, knob.flag, sample(knob)))[knob.name] == value
    assert values_of(run(*others, environment={knob.environment: sample(knob)}))[knob.name] == value
    assert values_of(run(*others, knob.flag, sample(knob), environment={knob.environment: "8"}))[knob.name] == value


@pytest.mark.parametrize("knob", NUMBERS, ids=lambda knob: knob.name)
def test_bounds(knob: Knob) -> None:
    """Both bounds are allowed; beyond them, or with no number at all, one line tells why."""
    for allowed in (knob.lowest, knob.highest):
        assert values_of(run("--model-id", "demo", knob.flag, str(allowed)))[knob.name] == allowed
    for refused in (knob.lowest - 1, knob.highest + 1):
        result = run("--model-id", "demo", knob.flag, str(refused))
        assert result.exit_code == 2
        told = result.output.splitlines()[-1]
        assert told.startswith(f"Error: Invalid value for '{knob.flag}'")
        assert told.endswith(f": {knob.type(refused)} is not from {knob.lowest} to {knob.highest}.")
    for word in ("many", "nan", "inf"):
        result = run("--model-id", "demo", environment={knob.environment: word})
        assert result.exit_code == 2
        assert knob.flag in result.output.splitlines()[-1]


def test_model_is_required() -> None:
    """The message names the flag."""
    result = run()
    assert result.exit_code == 2
    assert "Missing option '--model-id'" in result.output


def worker_values(knob: Knob) -> st.SearchStrategy[float | str | None]:
    """Values a knob of the worker can have; text as operators write it, flags of other commands included."""
    if knob.type is not str:
        integers, floats = st.integers(knob.lowest, knob.highest), st.floats(knob.lowest, knob.highest)
        values: st.SearchStrategy[float | str | None] = integers if knob.type is int else floats
        return st.none() | values if knob.default is None else values
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(["--port", "-", "a b", "=1"])


@given(st.fixed_dictionaries({knob.name: worker_values(knob) for knob in KNOBS if "worker" in knob.readers}))
def test_arguments_reach_the_worker_as_they_are(values: dict[str, Any]) -> None:
    """The worker parses what the gateway writes into the same values."""
    arguments = Settings.of(**values).arguments("worker")
    assert values_of(run(*arguments, command=show_worker)) == values


def test_arguments_hold_the_share_of_a_reader_only() -> None:
    """The worker is told nothing about ports, and nothing is told that is not set."""
    settings = Settings.of(model_id="demo", port=8080)
    worker, gateway = settings.arguments("worker"), settings.arguments("gateway")
    assert worker[:2] == ["--model-id", "demo"]
    assert "--port" not in worker
    assert gateway == ["--hostname", "0.0.0.0", "--port", "8080", "--payload-limit", "16000000"]
