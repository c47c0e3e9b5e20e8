"""Options from the table of knobs; their values are tested in tests/core/test_config.py."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner
from runtime.cli import main
from runtime.cli.options import knob_options
from runtime.config import KNOBS, Knob, Reader
from support.options import OPTIONS

KINDS = {int: "INTEGER", float: "FLOAT", str: "TEXT"}


def joined(text: str) -> str:
    """The text without the spaces and ends of lines that depend on the width."""
    return "".join(text.split())


def default_of(knob: Knob) -> str:
    """As the help tells it: in brackets that of a backend, which another backend's option of the name need not have."""
    if knob in OPTIONS:
        return "" if knob.default is None else f"default: ({knob.default})"
    shown = knob.flag.removeprefix("--") if knob.default is True else knob.default
    return f"default: {shown}" if shown else ""


@pytest.mark.parametrize(
    ("command", "readers"), [("serve", {"gateway", "worker"}), ("worker", {"worker"})], ids=["serve", "worker"]
)
def test_help_tells_every_knob(command: str, readers: set[str]) -> None:
    """Flag, meaning, environment twin and default, in the order of the tables; and no knob of another process."""
    text = CliRunner().invoke(main, [command, "--help"]).output
    told = [*(knob for knob in KNOBS if readers & set(knob.readers)), *OPTIONS]
    for knob in told:
        default = default_of(knob)
        extra = "; ".join(filter(None, [f"env var: {knob.environment}", default, "required" * knob.required]))
        kind = KINDS.get(knob.type, "/ --no-" + knob.flag.removeprefix("--"))
        kind = f"[{'|'.join(knob.choices)}]" if knob.choices else kind
        assert joined(f"{knob.flag} {kind} {knob.meaning} [{extra}]") in joined(text)
    flags = re.findall(
        r"^  (--[a-z-]+)(?= (?:INTEGER|FLOAT|TEXT|\[[a-z0-9|]+\]|/) )", text.replace("\n ", " \n "), re.MULTILINE
    )
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
