"""`runtime worker`."""

from __future__ import annotations

import click

from runtime.cli.options import BackendCommand, knob_options
from runtime.cli.running import run_server, settle
from runtime.knobs import Value


@click.command("worker", cls=BackendCommand)
@click.option("--listen", required=True, metavar="unix:PATH|HOST:PORT", help="Where to serve gRPC.")
@click.option("--supervised", is_flag=True, hidden=True, help="Stop when standard input ends.")
@knob_options("worker")
def worker(listen: str, supervised: bool, **values: Value) -> None:
    """Serve a model over gRPC alone, without the HTTP gateway."""
    settings = settle("worker", values, supervised)
    from runtime.serve.worker import run_worker

    run_server("worker", run_worker(settings, listen, supervised))
