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
from runtime.errors import StartupError

READERS: tuple[Reader, Reader] = ("gateway", "worker")
NUMBERS = [knob for knob in KNOBS if knob.is_number]


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


def written(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the commands print them, which make a list of a tuple."""
    result: dict[str, Any] = json.loads(json.dumps(values))
    return result


def sample(knob: Knob) -> tuple[list[str], str, Any]:
    """The flag, its twin and what they come to, which is not the default."""
    if knob.type is bool:
        flag = knob.flag.replace("--", "--no-", 1) if knob.default else knob.flag
        return [flag], str(not knob.default).lower(), not knob.default
    if knob.choices:
        return [knob.flag, knob.choices[-1]], knob.choices[-1], knob.choices[-1]
    word = str(min(7, knob.highest)) if knob.is_number else "a text"
    return [knob.flag, word], word, [word] if knob.repeatable else knob.type(word)


def test_every_knob_is_a_setting() -> None:
    """And the other way round, in the same order."""
    assert [field.name for field in fields(Settings)] == [*(knob.name for knob in KNOBS), "backend_options"]


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
    assert values == written(asdict(Settings.of(model_id="demo")))
    defaults = {knob.name: knob.default for knob in KNOBS}
    assert values == written({**defaults, "model_id": "demo", "backend_options": {}})


def test_defaults_are_within_their_bounds() -> None:
    """A default can be given as a flag."""
    for knob in NUMBERS:
        default = knob.default
        assert default is None or (isinstance(default, int | float) and knob.lowest <= default <= knob.highest)


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_flag_and_environment_twin(knob: Knob) -> None:
    """Either sets the knob, and the flag wins."""
    others = [] if knob.required else ["--model-id", "demo"]
    flag, twin, value = sample(knob)
    other = str(knob.default).lower() if knob.type is bool or knob.choices else "8"
    assert value != knob.default
    assert values_of(run(*others, *flag))[knob.name] == value
    assert values_of(run(*others, environment={knob.environment: twin}))[knob.name] == value
    assert values_of(run(*others, *flag, environment={knob.environment: other}))[knob.name] == value


def test_repeated_flag() -> None:
    """All of them count; in the environment there are commas between."""
    origins = ["https://one.example", "https://two.example"]
    flags = [word for origin in origins for word in ("--cors-allow-origin", origin)]
    twin = {"CORS_ALLOW_ORIGIN": ", ".join(origins)}
    assert values_of(run("--model-id", "demo", *flags))["cors_allow_origin"] == origins
    assert values_of(run("--model-id", "demo", environment=twin))["cors_allow_origin"] == origins


def test_switch_can_be_turned_off_again() -> None:
    """A flag wins over an environment that somebody else wrote."""
    result = run("--model-id", "demo", "--no-json-output", environment={"JSON_OUTPUT": "true"})
    assert values_of(result)["json_output"] is False


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


def values_for(knob: Knob) -> st.SearchStrategy[Any]:
    """Values a knob can have; text as operators write it, flags of other commands included."""
    if knob.type is bool:
        return st.booleans()
    if knob.is_number:
        integers, floats = st.integers(knob.lowest, knob.highest), st.floats(knob.lowest, knob.highest)
        values: st.SearchStrategy[Any] = integers if knob.type is int else floats
        return st.none() | values if knob.default is None else values
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.repeatable:
        return st.lists(st.sampled_from(["a", "b:1", "--port"])).map(tuple)
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(["--port", "-", "a b", "=1"])


@given(st.fixed_dictionaries({knob.name: values_for(knob) for knob in KNOBS if "worker" in knob.readers}))
def test_arguments_reach_the_worker_as_they_are(values: dict[str, Any]) -> None:
    """The worker parses what the gateway writes into the same values."""
    arguments = Settings.of(**values).arguments("worker")
    assert values_of(run(*arguments, command=show_worker)) == written(values)


def test_arguments_hold_the_share_of_a_reader_only() -> None:
    """The worker is told nothing about ports, and nothing is told that is not set."""
    settings = Settings.of(model_id="demo", port=8080)
    worker, gateway = settings.arguments("worker"), settings.arguments("gateway")
    assert worker[:2] == ["--model-id", "demo"]
    assert "--port" not in worker
    assert gateway[gateway.index("--port") + 1] == "8080"
    assert "--model-id" not in gateway
    assert "--grpc-port" not in gateway


@pytest.mark.parametrize(
    ("word", "value"), [("true", True), ("True", True), ("1", True), ("False", False), ("", False)]
)
def test_switches_in_the_environment(word: str, value: bool) -> None:
    """As the guide writes them, and as its command does."""
    name = "TEXT_GENERATION_SERVER_IGNORE_EOS_TOKEN"
    assert values_of(run("--model-id", "demo", environment={name: word}))["ignore_eos"] is value


@pytest.mark.parametrize("knob", [knob for knob in KNOBS if knob.type is not str], ids=lambda knob: knob.name)
def test_wrong_value_in_the_environment_names_the_variable(knob: Knob) -> None:
    """And quotes it."""
    result = run("--model-id", "demo", environment={knob.environment: "many"})
    assert result.exit_code == 2
    told = result.output.splitlines()[-1]
    assert f"'{knob.environment}'" in told
    assert "'many'" in told


def test_empty_flag() -> None:
    """An API key from a variable that is not set would let everybody in."""
    result = run("--model-id", "demo", "--api-key", "")
    assert result.exit_code == 2
    assert "'--api-key'" in result.output.splitlines()[-1]


def test_secrets_are_not_shown() -> None:
    """Nor written to the worker's command line."""
    settings = Settings.of(model_id="demo", api_key="hunter2")
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.arguments("worker")


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"max_input_tokens": 9, "max_total_tokens": 9}, "--max-input-tokens 9 must be below --max-total-tokens 9"),
    ({"max_input_length": 9, "max_total_tokens": 9}, "--max-input-tokens 9 must be below --max-total-tokens 9"),
    (
        {"max_input_tokens": 9, "max_batch_prefill_tokens": 8},
        "--max-batch-prefill-tokens 8 must be at least --max-input-tokens 9",
    ),
    (
        {"max_total_tokens": 9, "max_batch_total_tokens": 8},
        "--max-batch-total-tokens 8 must be at least --max-total-tokens 9",
    ),
    (
        {"max_batch_prefill_tokens": 9, "max_batch_total_tokens": 8},
        "--max-batch-total-tokens 8 must be at least --max-batch-prefill-tokens 9",
    ),
    (
        {"max_input_tokens": 9, "max_input_length": 9},
        "--max-input-tokens 9 and --max-input-length 9 are two names of one limit; leave out --max-input-length",
    ),
    ({"bucket_strategy": "file"}, "--bucket-strategy is file; name the file with --bucket-file"),
    (
        {"bucket_file": "buckets.json"},
        "--bucket-file is given and --bucket-strategy is linear; add --bucket-strategy file",
    ),
]


@pytest.mark.parametrize(("values", "told"), CONTRADICTIONS)
def test_contradictions(values: dict[str, Any], told: str) -> None:
    """One line that names both."""
    with pytest.raises(StartupError) as error:
        Settings.of(model_id="demo", **values).check()
    assert error.value.message == told


def test_values_at_their_limits_are_no_contradiction() -> None:
    """Each may be as large as what must hold it; alone, as small as anything."""
    Settings.of(
        model_id="demo", max_input_tokens=8, max_batch_prefill_tokens=9, max_total_tokens=9, max_batch_total_tokens=9
    ).check()
    Settings.of(model_id="demo", max_batch_prefill_tokens=1).check()
