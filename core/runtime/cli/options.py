"""Command-line options from the tables of knobs and of TGI's other flags."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from runtime.compatibility import FOREIGN_FLAGS, ForeignFlag, warnings_of
from runtime.config import KNOBS, Knob, Reader, Settings
from runtime.knobs import Value

Function = TypeVar("Function", bound=Callable[..., Any])

IGNORED: Final = "runtime.ignored"
"""Key of `Context.meta` for the lines about ignored flags."""
DECLARED: Final = "runtime.declared"
"""Key of `Context.meta` for the options of installed backends, which are asked once for each command."""


def knob_options(*readers: Reader, required: bool = True) -> Callable[[Function], Function]:
    """Add an option, with its environment twin, for every knob that one of `readers` reads.

    Without `required` even the required ones may be left out.
    """

    def decorate(function: Function) -> Function:
        for knob in reversed(KNOBS):
            if set(readers) & set(knob.readers):
                function = _knob_option(knob, required and knob.required)(function)
        return function

    return decorate


class BackendCommand(click.Command):
    """A command that also takes the options that installed backends declare."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Add the backends' options to the command's own; a flag of TGI that a backend serves is not foreign."""
        own = super().get_params(ctx)
        if DECLARED not in ctx.meta:
            foreign = {flag.flag for flag in FOREIGN_FLAGS}
            ctx.meta[DECLARED] = _declared({opt for param in own for opt in param.opts} - foreign)
        served = {knob.flag for knob in ctx.meta[DECLARED]}
        kept = [param for param in own if not served & set(param.opts)]
        return [*kept, *(_option(knob) for knob in ctx.meta[DECLARED])]


def backend_options() -> Sequence[Knob]:
    """Return the options of installed backends that the running command takes; none for another command."""
    options: Sequence[Knob] = click.get_current_context().meta.get(DECLARED, ())
    return options


def _declared(taken: Set[str]) -> Sequence[Knob]:
    """Return what backends declare; of two options of one name the first, and none whose flag is `taken`."""
    from runtime.plugins import find_backends

    declared: dict[str, Knob] = {}
    for found in find_backends():
        for knob in found.options:
            declared.setdefault(knob.name, knob)
    return [knob for knob in declared.values() if knob.flag not in taken]


def settings_of(values: Mapping[str, Value]) -> Settings:
    """Return the settings of a command line; raises StartupError when two values contradict each other."""
    ours = {knob.name for knob in KNOBS}
    given = {name: value for name, value in values.items() if name not in ours and value not in (None, ())}
    settings = Settings.of(**{name: value for name, value in values.items() if name in ours}, backend_options=given)
    settings.check()
    return settings


def foreign_options(function: Function) -> Function:
    """Add a hidden option for every flag of TGI that is known and not served."""
    for flag in FOREIGN_FLAGS:
        function = click.option(
            flag.flag,
            is_flag=not flag.takes_value,
            default=None,
            envvar=flag.environment,
            hidden=True,
            expose_value=False,
            callback=_refused_or_ignored(flag),
        )(function)
    return function


def given_in_vain() -> list[str]:
    """Return a line for each flag and variable that the running command was given and ignores."""
    flags: list[str] = click.get_current_context().meta.get(IGNORED, [])
    return [*flags, *warnings_of(os.environ, {knob.environment for knob in backend_options()})]


class _Text(click.types.StringParamType):
    """Text, separated by commas where the environment gives several."""

    name = "text"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not text:
            self.fail("it is empty; leave it out or give a value.", param, ctx)
        return text.strip() if param is not None and param.multiple else text


def _option(knob: Knob) -> click.Option:
    """Return the option for a backend's knob; None tells that it was not given."""

    @_knob_option(replace(knob, default=None), required=False)
    def declared() -> None:
        """A carrier for the option."""

    option: click.Option = declared.__click_params__[0]  # type: ignore[attr-defined]
    if knob.default not in (None, ()):
        option.show_default = str(knob.default)
    return option


def _knob_option(knob: Knob, required: bool) -> Callable[[Function], Function]:
    # Not both: since click 8.3 a default of None satisfies `required`.
    absent = {"required": True} if required else {"default": knob.default}
    kind: dict[str, Any] = {"type": knob.type} if knob.is_number else {"type": _Text(), "multiple": knob.repeatable}
    if knob.choices:
        kind = {"type": click.Choice(knob.choices)}
    declaration = knob.flag
    if knob.type is bool:
        kind = {"is_flag": True}
        declaration = f"{knob.flag}/{knob.flag.replace('--', '--no-', 1)}"
    return click.option(
        declaration,
        callback=_within_bounds(knob) if knob.is_number else None,
        envvar=knob.environment,
        show_envvar=True,
        show_default=bool(knob.default),
        help=knob.meaning,
        **kind,
        **absent,
    )


def _within_bounds(knob: Knob) -> Callable[[click.Context, click.Parameter, float | None], float | None]:
    """Check a number; not click.IntRange, which puts every bound into the help, nor FloatRange, which takes NaN."""

    def check(_context: click.Context, _option: click.Parameter, value: float | None) -> float | None:
        if value is not None and not knob.lowest <= value <= knob.highest:
            raise click.BadParameter(f"{value} is not from {knob.lowest} to {knob.highest}.")
        return value

    return check


def _refused_or_ignored(flag: ForeignFlag) -> Callable[[click.Context, click.Parameter, str | bool | None], None]:
    def check(context: click.Context, option: click.Parameter, value: str | bool | None) -> None:
        if value in (None, False, *flag.harmless):
            return
        assert option.name is not None
        from_environment = context.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT
        given = str(flag.environment) if from_environment else flag.flag
        if flag.refused:
            raise click.UsageError(f"{given} is not supported: {flag.reason}. Leave it out.")
        context.meta.setdefault(IGNORED, []).append(f"{given} has no effect: {flag.reason}")

    return check
