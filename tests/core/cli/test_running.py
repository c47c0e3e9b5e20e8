"""What happens between the options and the server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner
from runtime.cli.options import foreign_options, knob_options
from runtime.cli.running import settle
from runtime.compatibility import known_variables
from support.logs import logging_restored


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what the set-up does to the whole process."""
    with logging_restored():
        yield


@click.command
@click.option("--supervised", is_flag=True)
@knob_options("gateway", "worker")
@foreign_options
def start(supervised: bool, **values: Any) -> None:
    """Settle, and log one line."""
    settings = settle("serve", values, supervised)
    logging.getLogger("runtime").info("model %s", settings.model_id)


def lines(*arguments: str, **environment: str) -> list[str]:
    """What the command wrote, without the times."""
    cleared: dict[str, str | None] = dict.fromkeys(known_variables())
    result = CliRunner(env={**cleared, **environment}).invoke(start, ["--model-id", "demo", *arguments])
    return [line.split("Z ", 1)[-1].strip() for line in result.output.splitlines()]


def test_warnings_come_first() -> None:
    """One for each flag and variable given in vain."""
    first, second, last = lines("--usage-stats", "on", LOG_LEVEL="debug")
    assert first == "WARNING serve: --usage-stats has no effect: no usage is reported to anybody"
    assert second.startswith("WARNING serve: LOG_LEVEL has no effect: ")
    assert last == "INFO serve: model demo"


def test_a_supervised_process_leaves_warnings_to_its_parent() -> None:
    """They would come twice."""
    assert lines("--supervised", LOG_LEVEL="debug") == ["INFO serve: model demo"]


def test_logs_can_be_json() -> None:
    """As the settings have it."""
    (line,) = lines("--json-output")
    assert '"message": "model demo"' in line


def test_wrong_values_are_one_line() -> None:
    """As when they contradict each other."""
    told = "runtime serve: --max-input-tokens 9 must be below --max-total-tokens 9"
    assert lines("--max-input-tokens", "9", "--max-total-tokens", "9") == [told]
