"""The command `runtime`; one file per subcommand, imported when it is used."""

from __future__ import annotations

import importlib
import os
from typing import Final

import click

import runtime

COMMANDS: Final = (
    "ask", "backends", "conformance", "demo", "env", "new-backend", "plan", "replay", "serve", "verify", "worker",
)  # fmt: skip


class _LazyGroup(click.Group):
    """Finds a subcommand in the module of its name, so that `--help` imports no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        # A vendor's package would be imported with torch, in every process and before its backend has set its
        # environment. Each backend imports what it needs; the worker inherits this.
        os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
        module = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"runtime.cli.{module}"), module)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(runtime.__version__, prog_name="runtime")
def main() -> None:
    """Serve vision-language models on any accelerator that has a backend plugin."""
