"""Settings as an operator gives them: flags and environment variables."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import click
from runtime.cli import options
from runtime.cli.options import BackendCommand, foreign_options, knob_options
from runtime.config import KNOBS, Settings


def settings_of(*words: str, **variables: str) -> Settings:
    """What `runtime serve` with these words and variables, and no other knob's variable, comes to."""

    @click.command(cls=BackendCommand)
    @knob_options("gateway", "worker")
    @foreign_options
    def read(**values: Any) -> Settings:
        return options.settings_of(values)

    knobs = {knob.environment for knob in KNOBS}
    others = {name: value for name, value in os.environ.items() if name not in knobs}
    with mock.patch.dict(os.environ, {**others, **variables}, clear=True):
        settings = read.main(list(words), standalone_mode=False)
    assert isinstance(settings, Settings)
    return settings
