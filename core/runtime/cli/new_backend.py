"""`runtime new-backend`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from runtime.cli.running import one_line_errors


@click.command("new-backend")
@click.argument("name")
@click.option("--static", is_flag=True, help="Start from the toolkit for chips of fixed shapes and recorded graphs.")
@click.option("--folder", type=click.Path(path_type=Path), help="Folder to make.  [default: runtime-NAME]")
def new_backend(name: str, static: bool, folder: Path | None) -> None:
    """Write the package of a backend NAME that serves as it is, to be filled with a chip's code.

    It begins as plain PyTorch on the CPU; nothing that exists is overwritten. docs/plugins.md goes on from here.
    """
    # Imported late: asking which names are taken takes torch.
    from runtime.new_backend import check_name, write_backend

    with one_line_errors("new-backend"):
        check_name(name)
        folder = folder or Path(f"runtime-{name.replace('_', '-')}")
        written = write_backend(name, folder, static)
    for path in written:
        click.echo(path)
    click.echo(f"\nInstall it, and serve with it:\n  pip install -e {shlex.quote(str(folder))}")
    click.echo(f"  runtime serve --backend {name} --model-id demo")
