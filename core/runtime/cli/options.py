"""Command-line options from the table of knobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runtime.config import KNOBS, Reader

Function = TypeVar("Function", bound=Callable[..., Any])


def knob_options(*readers: Reader) -> Callable[[Function], Function]:
    """Add an option, with its environment twin, for every knob that one of `readers` reads."""

    def decorate(function: Function) -> Function:
        for knob in reversed(KNOBS):
            if set(readers) & set(knob.readers):
                option = click.option(
                    knob.flag,
                    type=knob.type,
                    default=knob.default,
                    required=knob.required,
                    envvar=knob.environment,
                    show_envvar=True,
                    show_default=knob.default is not None,
                    help=knob.meaning,
                )
                function = option(function)
        return function

    return decorate
