"""Running a server from a command: its event loop, and its one line when it fails."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import click

from runtime.errors import RuntimeServiceError, WorkerFailed


def run_server(process: str, server: Coroutine[Any, Any, None]) -> None:
    """Run to the end; a typed error is one line on standard error and exit status 1."""
    try:
        asyncio.run(server)
    except WorkerFailed:
        raise SystemExit(1) from None
    except RuntimeServiceError as error:
        sys.stdout.flush()
        click.echo(f"runtime {process}: {error.message}", err=True)
        raise SystemExit(1) from None
