"""`runtime conformance`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import click

from runtime.cli.options import BackendCommand, settings_of
from runtime.cli.running import one_line_errors
from runtime.knobs import Value

if TYPE_CHECKING:
    from runtime.conformance.bench import Bench
    from runtime.conformance.report import Report


class Waiver(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.3
    """A check's name and a written reason, as NAME=REASON."""

    name = "name=reason"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        check, separator, reason = value.partition("=")
        if not separator:
            self.fail(f"{value!r} has no reason; write NAME=REASON.", param, ctx)
        return check.strip(), reason.strip()


@click.command("conformance", cls=BackendCommand)
@click.option("--backend", envvar="RUNTIME_BACKEND", show_envvar=True, required=True, help="Backend to check.")
@click.option(
    "--waive",
    "waivers",
    type=Waiver(),
    multiple=True,
    help="Leave out a check, for a written reason that the report shows: NAME=REASON. May be repeated.",
)
@click.option(
    "--requests",
    type=click.IntRange(8, 1_000_000),
    default=500,
    show_default=True,
    help="Requests of the check that memory is flat.",
)
@click.option("--json", "json_file", type=click.File("w", lazy=False), help="Write the report to this file too.")
def conformance(
    backend: str, waivers: tuple[tuple[str, str], ...], requests: int, json_file: IO[str] | None, **values: Value
) -> None:
    """Check whether a backend does what core expects of every backend, on the bundled demo model.

    Takes the options of the backend. Ends with status 1 when a check fails.
    """
    from runtime.conformance.table import print_report

    with one_line_errors("conformance"):
        bench = _bench(backend, values, requests)
        with _quiet_logs():
            report = _run(bench, dict(waivers))
    print_report(report)
    if json_file is not None:
        json_file.write(json.dumps(report.as_json(), indent=2) + "\n")
    raise SystemExit(not report.conforms)


def _bench(backend: str, values: Mapping[str, Value], requests: int) -> Bench:
    from runtime import demo
    from runtime.conformance.bench import Bench
    from runtime.conformance.loading import LIMITS
    from runtime.conformance.oracle import Oracle
    from runtime.model import read_model
    from runtime.plugins import backend_named
    from runtime.serve.assembly import options_of

    found = backend_named(backend)
    options = options_of(settings_of({"model_id": "demo", "backend": backend, **values}), found)
    model = read_model(demo.MODEL)
    return Bench(found, model, Oracle(model, LIMITS), options, requests)


def _run(bench: Bench, waivers: Mapping[str, str]) -> Report:
    """Run the checks; where somebody watches, a line tells which."""
    from rich.console import Console

    from runtime.conformance.suite import run_checks

    with Console(stderr=True).status("loading") as status:
        return run_checks(bench, waivers, lambda check: status.update(check.name))


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep off the terminal what core logs of errors that a check makes on purpose; outcomes have the rest."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
