"""Options from the table of knobs; their values are tested in tests/core/test_config.py."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner
from runtime.cli import main
from runtime.cli.options import knob_options
from runtime.config import KNOBS, Reader


@pytest.mark.parametrize(
    ("command", "readers"), [("serve", {"gateway", "worker"}), ("worker", {"worker"})], ids=["serve", "worker"]
)
def test_help_tells_every_knob(command: str, readers: set[str]) -> None:
    """Flag, meaning, environment twin and default, in the order of the table; and no knob of another process."""
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).output.split())
    told = [knob for knob in KNOBS if readers & set(knob.readers)]
    for knob in told:
        default = f"default: {knob.default}" if knob.default is not None else ""
        extra = "; ".join(filter(None, [f"env var: {knob.environment}", default, "required" * knob.required]))
        kind = {int: "INTEGER", float: "FLOAT", str: "TEXT"}[knob.type]
        assert f"{knob.flag} {kind} {knob.meaning} [{extra}]" in text
    flags = re.findall(r"--[a-z-]+(?= (?:INTEGER|FLOAT|TEXT) )", text)
    assert flags == [knob.flag for knob in told]


@pytest.mark.parametrize("reader", ["gateway", "worker"])
def test_a_command_takes_the_knobs_of_its_readers(reader: Reader) -> None:
    """By the names of the fields."""

    @click.command
    @knob_options(reader)
    def show(**values: object) -> None:
        click.echo(" ".join(values))

    result = CliRunner().invoke(show, ["--model-id", "demo"] if reader == "worker" else [])
    assert result.output.split() == [knob.name for knob in KNOBS if reader in knob.readers]
