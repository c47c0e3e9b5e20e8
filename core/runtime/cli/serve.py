"""`runtime serve`."""

from __future__ import annotations

import click

from runtime.cli.options import knob_options
from runtime.cli.running import run_server
from runtime.config import Settings
from runtime.telemetry.logs import set_up_logs


@click.command("serve")
@knob_options("gateway", "worker")
def serve(**values: str | int | float | None) -> None:
    """Serve a model over HTTP and gRPC.

    Starts a gateway (this process) and a worker that holds the model; ready when a line says Connected.
    """
    set_up_logs("serve")
    from runtime.serve.gateway import run_gateway

    run_server("serve", run_gateway(Settings.of(**values)))
