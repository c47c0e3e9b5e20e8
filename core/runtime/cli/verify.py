"""`runtime verify`: does a backend compute what the oracle computes?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.options import BackendCommand, foreign_options, given_in_vain, knob_options, settings_of
from runtime.cli.running import one_line_errors
from runtime.config import Settings
from runtime.errors import StartupError
from runtime.knobs import Value

if TYPE_CHECKING:
    from runtime.plugins import FoundBackend
    from runtime.verify.verification import Progress, Question


@click.command("verify", cls=BackendCommand)
@knob_options("gateway", "worker")
@foreign_options
@click.option("--against", default="cpu_reference", show_default=True, help="Backend that is the oracle.")
@click.option("--cases", multiple=True, help="Case to run, all by default; may be repeated, or separated by commas.")
@click.option("--layers", is_flag=True, help="Compare every layer, not only those of a stage that diverges.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Of prompts and pictures.")
@click.option(
    "--judge-as",
    type=click.Choice(("bfloat16", "float16", "float32")),
    help="Type whose rounding is excused; what the backend computes in by default.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON.")
@click.option("--html", "html_file", type=click.Path(path_type=Path, dir_okay=False), help="Write it as a page.")
def verify(
    against: str,
    cases: tuple[str, ...],
    layers: bool,
    seed: int,
    judge_as: str | None,
    json_file: Path | None,
    html_file: Path | None,
    **values: Value,
) -> None:
    """Compare a backend with the oracle, stage by stage, and name the first that diverges.

    Takes the options of `runtime serve`; starts no server. Exit status 0: the backend computes what the oracle
    computes, but for rounding; 1: it does not, or cannot be run.
    """
    with one_line_errors("verify"):
        settings = settings_of(values)
        for line in given_in_vain():
            click.echo(f"warning: {line}", err=True)
        chosen = tuple(name.strip() for given in cases for name in given.split(","))
        is_ok = _verified(settings, against, _Choice(chosen, layers, seed, judge_as), json_file, html_file)
    if not is_ok:
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is compared, and how."""

    cases: tuple[str, ...]
    layers: bool
    seed: int
    judge_as: str | None


def _verified(
    settings: Settings, against: str, choice: _Choice, json_file: Path | None, html_file: Path | None
) -> bool:
    """Compare, print and write; return whether the backend passes."""
    from runtime.console import report_console
    from runtime.plugins import backend_named
    from runtime.verify.apart import perform_apart
    from runtime.verify.page import page_of
    from runtime.verify.report import report_of
    from runtime.verify.table import print_report
    from runtime.verify.verification import verify

    backend, oracle = backend_named(settings.backend), backend_named(against)
    question = _question(settings, backend, oracle, choice)
    with _progress() as tell:
        finding = verify(question, perform_apart, tell)
    report = report_of(question, finding, settings.model_id, backend, oracle)
    print_report(report, report_console())
    for file, text in ((json_file, report.json), (html_file, lambda: page_of(report))):
        if file is not None:
            _write(file, text())
    return finding.verdict.ok


def _question(settings: Settings, backend: FoundBackend, oracle: FoundBackend, choice: _Choice) -> Question:
    from runtime.serve.assembly import budgets_of, limits_of, model_of, options_of
    from runtime.shapes import Ladders, plan_shapes
    from runtime.verify.cases import names_of
    from runtime.verify.verification import Question

    model = model_of(settings).spec
    limits = replace(limits_of(settings, model), options=options_of(settings, backend))
    budgets = budgets_of(settings, limits)
    is_static = backend.spec is not None and backend.spec.static_shapes
    return Question(
        backend=backend.name,
        oracle=oracle.name,
        model=model,
        limits=limits,
        oracle_options={knob.name: knob.default for knob in oracle.options},
        longest=min(limits.prefill_tokens, budgets.prefill_tokens, limits.context - 1, budgets.total_tokens - 1),
        plan=plan_shapes(model, limits, budgets, Ladders.of(settings), settings.resumes) if is_static else None,
        cases=names_of(choice.cases),
        layers=choice.layers,
        seed=choice.seed,
        noise_dtype=choice.judge_as,
    )


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """Show how far each run is, where there is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, transient=True, disable=not console.is_terminal, console=console) as bar:
        task = bar.add_task("", total=None)

        def tell(progress: Progress) -> None:
            layers = ", by layer" if progress.layers else ""
            bar.update(
                task, description=f"{progress.role.value}{layers}", completed=progress.done, total=progress.total
            )

        yield tell


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartupError(f"the report cannot be written to {file}: {error.strerror}") from error
