"""`runtime backends`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.plugins import FoundBackend


@click.command("backends")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backends(as_json: bool) -> None:
    """List every installed backend, and why one cannot be used."""
    from runtime.plugins import find_backends

    found = find_backends()
    if as_json:
        click.echo(json.dumps([_facts(backend) for backend in found], indent=2))
    else:
        _print_table(found)


def _facts(backend: FoundBackend) -> dict[str, object]:
    return {
        "name": backend.name,
        "summary": backend.summary,
        "distribution": backend.distribution,
        "version": backend.version,
        "contract": backend.contract,
        "available": backend.availability.ok,
        "reason": backend.availability.reason,
        "details": dict(backend.availability.details),
    }


def _print_table(found: list[FoundBackend]) -> None:
    rows = [("NAME", "VERSION", "CONTRACT", "AVAILABLE", "")]
    for backend in found:
        available = "yes" if backend.availability.ok else "no"
        remark = backend.availability.reason or backend.summary
        version = f"{backend.distribution} {backend.version}"
        rows.append((backend.name, version, backend.contract or "-", available, " ".join(remark.split())))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[4]]).rstrip())
