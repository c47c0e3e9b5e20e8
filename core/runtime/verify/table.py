"""The report on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime.verify.report import Report
from runtime.verify.verdict import STAGES, CaseVerdict, StageVerdict, order

LISTED: Final = 5
"""Flips that are told one by one."""


def print_report(report: Report, console: Console) -> None:
    """Print the table of cases and stages, what diverged, and what the verdict depends on."""
    verdict = report.finding.verdict
    console.print(_table(report))
    for line in _lines(report):
        console.print(line, soft_wrap=True)
    console.print(_headline(report), style="green" if verdict.ok else "bold red", soft_wrap=True)


def _headline(report: Report) -> str:
    grounds, first = report.grounds, report.finding.verdict.first
    names = f"{grounds['backend']['name']} against {grounds['oracle']['name']} on {grounds['model']['id']}"
    return f"{names}: no divergence" if first is None else f"{names}: first divergence at {first}"


def _table(report: Report) -> Table:
    finding = report.finding
    table = Table(
        title=f"error in multiples of what rounding to {finding.dtype} costs the oracle; beyond "
        f"{report.grounds['judged']['multiple']:g} is a fault",
        title_justify="left",
    )
    table.add_column("case")
    stages = [stage for stage in STAGES if any(stage == each.stage for case in _cases(report) for each in case.stages)]
    for stage in stages:
        table.add_column(stage.replace(" logits", ""), justify="right")
    table.add_column("KL, nats", justify="right")
    table.add_column("tokens", justify="right")
    for case in _cases(report):
        if case.left_out or case.failed:
            table.add_row(case.name, *["-"] * len(stages), "-", "not run" if case.left_out else Text("failed", "red"))
            continue
        told = {each.stage: each for each in case.stages}
        cells = [_cell(told[stage]) if stage in told else Text("") for stage in stages]
        table.add_row(case.name, *cells, _kl(case), _tokens(case))
    return table


def _cases(report: Report) -> tuple[CaseVerdict, ...]:
    return report.finding.verdict.cases


def _cell(stage: StageVerdict) -> Text:
    return Text(f"{stage.ratio:.3g}", "" if stage.ok else "bold red")


def _kl(case: CaseVerdict) -> str:
    found = [stage.kl_max for stage in case.stages if stage.kl_max is not None]
    return f"{max(found):.1g}" if found else ""


def _tokens(case: CaseVerdict) -> Text:
    is_fine = all(each.is_noise for each in case.flips)
    return Text(f"{case.agreed}/{case.compared}", "" if is_fine else "bold red")


def _lines(report: Report) -> Iterator[str]:
    finding, grounds = report.finding, report.grounds
    for case in _cases(report):
        if case.left_out:
            yield f"{case.name} was not run: {case.left_out}"
        if case.failed:
            yield f"{case.name} failed: {case.failed}"
    yield from _flips(report)
    for case in finding.verdict.layers:
        layers = [stage for stage in case.stages if "." in stage.stage]
        told = (f"{each.stage} {each.ratio:.3g}" for each in sorted(layers, key=lambda each: order(each.stage)))
        yield f"layers in case {case.name}: {', '.join(told)}"
    if not finding.tells_stages:
        yield f"backend {grounds['backend']['name']} tells no stages: it is judged by its scores and tokens only"
    backend, model = grounds["backend"], grounds["model"]
    yield (
        f"{backend['name']} of {backend['distribution']} {backend['version']}, judged as {finding.dtype}; model "
        f"{model['digest'][:16]}; runtime {grounds['runtime']}, torch {grounds['torch']}"
    )
    yield f"report {report.digest}"


def _flips(report: Report) -> Iterator[str]:
    """Yield the tokens that differ, those that rounding does not explain first."""
    flips = [(case.name, each) for case in _cases(report) for each in case.flips]
    flips.sort(key=lambda each: -each[1].flip.margin / each[1].allowed)
    for case, each in flips[:LISTED]:
        kind = "rounding" if each.is_noise else "FAULT"
        yield (
            f"{kind}: case {case}, {each.flip.place}: token {each.flip.got} for {each.flip.wanted}, which the oracle "
            f"prefers by {each.flip.margin:.2g} (rounding explains {each.allowed:.2g})"
        )
    if len(flips) > LISTED:
        yield f"and {len(flips) - LISTED} more tokens that differ by less of what rounding explains"
