"""A report as a person reads it."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime.conformance.report import Outcome, Report, Result
from runtime.console import report_console

STYLES: Final = {
    Result.PASSED: "green",
    Result.FAILED: "bold red",
    Result.NOT_RUN: "red",
    Result.NOT_APPLICABLE: "dim",
    Result.WAIVED: "yellow",
}


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the table, what each failed check means, and the verdict."""
    console = report_console() if console is None else console
    table = Table(box=None, pad_edge=False)
    for heading in ("CHECK", "RESULT", "SEEN"):
        table.add_column(heading, no_wrap=heading != "SEEN")
    for outcome in report.outcomes:
        style = STYLES[outcome.result]
        table.add_row(outcome.check.name, f"[{style}]{outcome.result.value}[/]", escape(outcome.seen))
    console.print(table)
    for outcome in report.outcomes:
        if outcome.result is Result.FAILED:
            _explain(outcome, console)
    console.print(_verdict(report), soft_wrap=True)


def _explain(outcome: Outcome, console: Console) -> None:
    console.print(f"\n[bold red]{outcome.check.name}[/] {escape(outcome.seen)}", soft_wrap=True)
    console.print(f"  proves: {escape(outcome.check.proves)}", soft_wrap=True)
    console.print(f"  usually broken by: {escape(outcome.check.breaks)}", soft_wrap=True)


def _verdict(report: Report) -> str:
    """Return the last line: whether it conforms, how many checks came to what, and the digest to cite."""
    counts = ", ".join(f"{count} {result.value}" for result in Result if (count := report.count(result)))
    backend = report.subject["backend"]
    verdict = "conforms" if report.conforms else "does not conform"
    name = f"{backend['name']} of {backend['distribution']} {backend['version']}"
    return f"\n{escape(name)} {verdict}: {counts}; digest {report.digest}"
