"""`runtime serve`."""

from __future__ import annotations

import click

from runtime.cli.options import BackendCommand, foreign_options, knob_options
from runtime.cli.running import run_server, settle
from runtime.knobs import Value


@click.command("serve", cls=BackendCommand)
@knob_options("gateway", "worker")
@foreign_options
def serve(**values: Value) -> None:
    """Serve a model over HTTP and gRPC.

    Starts a gateway (this process) and a worker that holds the model; ready when a line says Connected.
    """
    settings = settle("serve", values)
    from runtime.serve.gateway import run_gateway

    run_server("serve", run_gateway(settings))
