"""`runtime env`: what every knob comes to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from runtime.cli.options import (
    BackendCommand,
    backend_options,
    foreign_options,
    given_in_vain,
    knob_options,
    settings_of,
)
from runtime.cli.running import one_line_errors
from runtime.config import Settings
from runtime.knobs import AUTO, KNOBS, SHAPES, Knob, Value

if TYPE_CHECKING:
    from runtime.backend import ModelSpec
    from runtime.errors import BackendRefused
    from runtime.plugins import FoundBackend

MASK: Final = "********"
DERIVED: Final = (
    "max_input_tokens",
    "max_total_tokens",
    "max_batch_size",
    "max_batch_prefill_tokens",
    "max_batch_total_tokens",
)
"""Follow from each other and the model when they are left out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table."""

    name: str
    value: Value
    """None: not set, or not known before the model is there."""
    source: str
    """`flag`, `environment NAME`, `default` or `derived`."""
    meaning: str
    effective: bool
    reason: str
    """Why it has no effect."""


@click.command("env", cls=BackendCommand)
@knob_options("gateway", "worker", required=False)
@foreign_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def env(as_json: bool, **values: Value) -> None:
    """Show what every setting comes to, where it comes from and whether it has an effect.

    Takes the options of `runtime serve` and starts nothing. What follows from a model is shown for one in a folder.
    """
    with one_line_errors("env"):
        settings = settings_of(values)
        warnings = given_in_vain()
        model, backend = _model(settings), _backend(settings.backend)
        entries = list(_knob_entries(settings, model, backend))
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2))
    else:
        _print_table(entries)
    for line in warnings:
        click.echo(f"warning: {line}", err=True)


def _model(settings: Settings) -> ModelSpec | None:
    """Return the model when it is on this machine for sure."""
    if not settings.model_id or not (settings.model_id == "demo" or Path(settings.model_id).is_dir()):
        return None
    from runtime.serve.assembly import model_of

    return model_of(settings).spec


def _backend(name: str) -> FoundBackend | BackendRefused:
    """Return the backend that would be used, or the reason why there is none."""
    from runtime.errors import BackendRefused
    from runtime.plugins import backend_named

    try:
        return backend_named(name)
    except BackendRefused as refusal:
        return refusal


def _knob_entries(
    settings: Settings, model: ModelSpec | None, backend: FoundBackend | BackendRefused
) -> Iterator[Entry]:
    derived = {} if model is None else _derived(settings, model)
    own = {} if isinstance(backend, Exception) else {knob.name: knob for knob in backend.options}
    reasons = _reasons(settings, model, backend)
    for knob in (*KNOBS, *(own.get(knob.name, knob) for knob in backend_options())):
        given = settings.backend_options.get(knob.name, knob.default)
        value, source = getattr(settings, knob.name, given), _source(knob)
        if value is None and knob.name in DERIVED:
            value, source = derived.get(knob.name), "derived"
        if value == AUTO and knob.name == "backend" and not isinstance(backend, Exception):
            value, source = backend.name, "derived"
        if knob.secret and value is not None:
            value = MASK
        reason = reasons.get(knob.name, "")
        yield Entry(knob.name, value, source, knob.meaning, not reason, reason)


def _source(knob: Knob) -> str:
    source = click.get_current_context().get_parameter_source(knob.name)
    if source is ParameterSource.ENVIRONMENT:
        return f"environment {knob.environment}"
    return "flag" if source is ParameterSource.COMMANDLINE else "default"


def _derived(settings: Settings, model: ModelSpec) -> Mapping[str, int]:
    from runtime.serve.assembly import budgets_of, limits_of

    limits = limits_of(settings, model)
    budgets = budgets_of(settings, limits)
    values = (limits.prefill_tokens, limits.context, limits.rows, budgets.prefill_tokens, budgets.total_tokens)
    return dict(zip(DERIVED, values, strict=True))


def _reasons(settings: Settings, model: ModelSpec | None, backend: FoundBackend | BackendRefused) -> Mapping[str, str]:
    """Return why knobs have no effect, by their names."""
    reasons = {}
    if isinstance(backend, Exception):
        reasons["backend"] = backend.message
    else:
        if backend.spec is not None and not backend.spec.static_shapes:
            reasons |= {knob.name: f"backend {backend.name} takes batches of any shape" for knob in SHAPES}
        foreign = {knob.name for knob in backend_options()} - {knob.name for knob in backend.options}
        reasons |= dict.fromkeys(foreign, f"backend {backend.name} has no such option")
    if settings.deterministic:
        whole = "with --deterministic every prompt is computed whole, from its start, and alone"
        reasons |= dict.fromkeys(("prefix_reuse", "prefill_chunk"), whole)
        reasons.setdefault("prefill_batch_bucket_size", whole)
        reasons.setdefault("batch_bucket_size", "with --deterministic every decode step is padded to all rows")
    if model is not None:
        reasons |= dict.fromkeys(("revision", "huggingface_hub_cache"), "the model is a folder")
    if settings.otlp_endpoint is None:
        reasons["otlp_service_name"] = "no traces are made without --otlp-endpoint"
    if settings.shadow is None:
        reasons["shadow_rate"] = "no prompt is followed without --shadow"
    if model is not None and model.images is None:
        reasons |= dict.fromkeys(("max_images", "max_image_bytes", "max_image_pixels"), "the model takes no pictures")
    return reasons


def _print_table(entries: list[Entry]) -> None:
    rows = [("NAME", "VALUE", "SOURCE", "EFFECTIVE", "MEANING")]
    for entry in entries:
        effective = "yes" if entry.effective else "no"
        meaning = entry.meaning if entry.effective else f"{entry.meaning} No effect: {entry.reason}."
        rows.append((entry.name, _written(entry.value), entry.source, effective, meaning))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[4]]))


def _written(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) or "-" if isinstance(value, tuple) else str(value)
