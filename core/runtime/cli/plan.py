"""`runtime plan`: every shape a backend will see, and what they take, before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from runtime import demo
from runtime.cli.options import BackendCommand, foreign_options, given_in_vain, knob_options, settings_of
from runtime.cli.running import one_line_errors
from runtime.config import Settings
from runtime.knobs import Value

if TYPE_CHECKING:
    from runtime.backend import Limits, ModelSpec, ShapePlan
    from runtime.budgets import Budgets
    from runtime.plugins import FoundBackend
    from runtime.shapes.forecast import Forecast
    from runtime.shapes.padding import PaddedRequest


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the command tells."""

    settings: Settings
    backend: str
    static_shapes: bool
    """Whether the backend gets this plan; else it gets none, and this is what another would get."""
    limits: Limits
    budgets: Budgets
    plan: ShapePlan
    forecast: Forecast
    dtype: str
    mix: tuple[PaddedRequest, ...]


@click.command("plan", cls=BackendCommand)
@knob_options("gateway", "worker")
@foreign_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--seconds-per-shape",
    type=click.FloatRange(min=0, max=1e6),
    help="Time that the warm-up of one shape was measured to take; forecasts the whole.",
)
def plan(as_json: bool, seconds_per_shape: float | None, **values: Value) -> None:
    """Show every shape a backend of static shapes gets, and what memory, padding and time they take.

    Takes the options of `runtime serve`, reads the model's configs only and starts nothing.
    """
    with one_line_errors("plan"):
        settings = settings_of(values)
        warnings = given_in_vain()
        report = _report(settings, seconds_per_shape)
    if as_json:
        click.echo(json.dumps(_facts(report), indent=2))
    else:
        from runtime.cli.plan_text import lines_of

        for line in lines_of(report):
            click.echo(line)
    for line in warnings:
        click.echo(f"warning: {line}", err=True)


def _report(settings: Settings, seconds_per_shape: float | None) -> Report:
    from runtime.serve.assembly import budgets_of, limits_of
    from runtime.shapes import Ladders, PlannedShapes, plan_shapes
    from runtime.shapes.forecast import forecast
    from runtime.shapes.padding import padded_mix

    backend, model = _backend(settings.backend), _model(settings)
    limits = limits_of(settings, model)
    budgets = budgets_of(settings, limits)
    planned = plan_shapes(model, limits, budgets, Ladders.of(settings), settings.resumes)
    return Report(
        settings=settings,
        backend=backend.name,
        static_shapes=backend.spec is not None and backend.spec.static_shapes,
        limits=limits,
        budgets=budgets,
        plan=planned,
        forecast=forecast(model, limits, planned, seconds_per_shape),
        dtype=model.dtype,
        mix=padded_mix(model.images, PlannedShapes(planned)),
    )


def _backend(name: str) -> FoundBackend:
    """Return a backend that need not run on this machine; raises BackendRefused when there is none of that name."""
    from runtime.plugins import backend_named, find_backends

    usable = [backend for backend in find_backends() if backend.name == name and backend.spec is not None]
    return usable[0] if usable else backend_named(name)


def _model(settings: Settings) -> ModelSpec:
    from runtime.model import find_configs

    model_id = str(demo.MODEL) if settings.model_id == "demo" else settings.model_id
    return find_configs(model_id, settings.revision, settings.huggingface_hub_cache)


def _facts(report: Report) -> dict[str, object]:
    from runtime.shapes.padding import padding_share, padding_share_alone

    return {
        "model_id": report.settings.model_id,
        "backend": report.backend,
        "static_shapes": report.static_shapes,
        "limits": {
            "rows": report.limits.rows,
            "context": report.limits.context,
            "prefill_rows": report.limits.prefill_rows,
            "prefill_tokens": report.limits.prefill_tokens,
        },
        "budgets": {"prefill_tokens": report.budgets.prefill_tokens, "total_tokens": report.budgets.total_tokens},
        "bucket_strategy": report.settings.bucket_strategy,
        "shapes": asdict(report.plan),
        "forecast": {**asdict(report.forecast), "total": report.forecast.total},
        "padding": {
            "share": padding_share(report.mix),
            "share_alone": padding_share_alone(report.mix),
            "mix": [asdict(each) for each in report.mix],
        },
    }
