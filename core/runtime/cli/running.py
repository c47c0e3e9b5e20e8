"""What the commands that serve have in common: settings, event loop, and one line when it fails."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from runtime.cli.options import given_in_vain, settings_of
from runtime.config import Settings
from runtime.errors import RuntimeServiceError, WorkerFailed
from runtime.knobs import Value
from runtime.telemetry.logs import set_up_logs

log = logging.getLogger(__name__)


def settle(process: str, values: Mapping[str, Value], supervised: bool = False) -> Settings:
    """Return the checked settings and set up the logs; warn of what was given in vain, unless the parent did."""
    with one_line_errors(process):
        settings = settings_of(values)
        warnings = [] if supervised else given_in_vain()
    set_up_logs(process, settings.json_output)
    for line in warnings:
        log.warning("%s", line)
    return settings


def run_server(process: str, server: Coroutine[Any, Any, None]) -> None:
    """Run to the end."""
    with one_line_errors(process):
        asyncio.run(server)


@contextmanager
def one_line_errors(process: str) -> Iterator[None]:
    """Make of a typed error one line on standard error and exit status 1."""
    try:
        yield
    except WorkerFailed:
        raise SystemExit(1) from None
    except RuntimeServiceError as error:
        sys.stdout.flush()
        click.echo(f"runtime {process}: {error.message}", err=True)
        raise SystemExit(1) from None
