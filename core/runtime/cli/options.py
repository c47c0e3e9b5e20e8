"""Command-line options from the table of knobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runtime.config import KNOBS, Knob, Reader

Function = TypeVar("Function", bound=Callable[..., Any])


def knob_options(*readers: Reader) -> Callable[[Function], Function]:
    """Add an option, with its environment twin, for every knob that one of `readers` reads."""

    def decorate(function: Function) -> Function:
        for knob in reversed(KNOBS):
            if set(readers) & set(knob.readers):
                # Not both: since click 8.3 a default of None satisfies `required`.
                absent = {"required": True} if knob.required else {"default": knob.default}
                option = click.option(
                    knob.flag,
                    type=knob.type,
                    callback=None if knob.type is str else _within_bounds(knob),
                    envvar=knob.environment,
                    show_envvar=True,
                    show_default=knob.default is not None,
                    help=knob.meaning,
                    **absent,
                )
                function = option(function)
        return function

    return decorate


def _within_bounds(knob: Knob) -> Callable[[click.Context, click.Parameter, float | None], float | None]:
    """Check a number; not click.IntRange, which puts every bound into the help, nor FloatRange, which takes NaN."""

    def check(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
        if value is not None and not knob.lowest <= value <= knob.highest:
            raise click.BadParameter(f"{value} is not from {knob.lowest} to {knob.highest}.")
        return value

    return check
