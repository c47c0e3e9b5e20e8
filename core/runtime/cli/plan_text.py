"""What `runtime plan` prints: a screen of at most 100 columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import click

from runtime.shapes.padding import padding_share, padding_share_alone

if TYPE_CHECKING:
    from runtime.backend import ShapePlan
    from runtime.cli.plan import Report
    from runtime.shapes.padding import PaddedRequest

SHOWN: Final = 13
"""Numbers of an uneven row that are shown in full."""

MOST_LINES: Final = 6
"""For shapes of one kind; more are drawn into one, for each length may allow another number of rows."""


def lines_of(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from _introduction(report)
    yield ""
    yield from _limits(report)
    yield ""
    yield _heading("Shapes", f"{report.forecast.graphs}, a graph each")
    yield from _shapes(report.plan)
    yield ""
    yield from _memory(report)
    yield ""
    yield from _padding(report.mix)
    if report.forecast.warmup_seconds is not None:
        yield ""
        yield _heading("Warm-up", f"{_duration(report.forecast.warmup_seconds)} for all shapes, at the measured rate")


def _introduction(report: Report) -> Iterator[str]:
    model = click.style(report.settings.model_id, bold=True)
    if report.static_shapes:
        yield f"{model} on {report.backend}"
    else:
        yield f"{model} on {report.backend}, which takes any shape: it gets no plan, and nothing is padded."
        yield "A backend of static shapes gets this:"


def _limits(report: Report) -> Iterator[str]:
    limits, budgets, settings = report.limits, report.budgets, report.settings
    yield _heading("Limits", f"decode {limits.rows} rows of {limits.context} tokens, {budgets.total_tokens} together")
    prefill = f"{limits.prefill_rows} rows of {limits.prefill_tokens} tokens, {budgets.prefill_tokens} together"
    yield f"           prefill {prefill}"
    if settings.bucket_strategy == "file":
        yield _heading("Buckets", "as the file lists them")
    else:
        yield _heading(
            "Buckets",
            f"{settings.bucket_strategy}: prompts by {settings.pad_sequence_to_multiple_of} tokens, prefill by "
            f"{settings.prefill_batch_bucket_size} and decode by {settings.batch_bucket_size} rows",
        )


def _shapes(plan: ShapePlan) -> Iterator[str]:
    whole = [(shape.length, shape.rows) for shape in plan.prefill if not shape.cached]
    resumed = [(shape.length, shape.cached) for shape in plan.prefill if shape.cached]
    yield from _lines("prefill", whole, "tokens", "rows")
    yield from _lines("resumed", resumed, "tokens", "after")
    yield from _lines("decode", [(shape.context, shape.rows) for shape in plan.decode], "context", "rows")
    if plan.vision:
        yield f"  vision  {len(plan.vision):>6}  tiles {_run([shape.tiles for shape in plan.vision])}"


def _lines(kind: str, shapes: Sequence[tuple[int, int]], first: str, second: str) -> Iterator[str]:
    """Yield a line for each set of first numbers that go with the same second numbers."""
    seconds: defaultdict[int, list[int]] = defaultdict(list)
    for one, other in shapes:
        seconds[one].append(other)
    firsts: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for one, same in seconds.items():
        firsts[tuple(same)].append(one)
    if len(firsts) <= MOST_LINES:
        for others, ones in firsts.items():
            yield f"  {kind:<8}{len(ones) * len(others):>6}  {second} {_run(others)}  x  {first} {_run(ones)}"
    else:
        most = max(seconds.values(), key=len)
        yield f"  {kind:<8}{len(shapes):>6}  {second} {_run(most)}, fewer the longer  x  {first} {_run(list(seconds))}"


def _run(numbers: Sequence[int]) -> str:
    """Return ascending numbers, a long row of them without its middle; the last may break an even row."""
    even = len({after - before for before, after in pairwise(numbers[:-1])}) == 1
    if len(numbers) <= (6 if even else SHOWN):
        return " ".join(map(str, numbers))
    shown = numbers[: 2 if even else SHOWN - 3]
    return f"{' '.join(map(str, shown))} ... {numbers[-2]} {numbers[-1]}"


def _memory(report: Report) -> Iterator[str]:
    it, limits = report.forecast, report.limits
    yield _heading("Memory", f"{_gib(it.total)} on the device, besides what its libraries and graphs keep")
    yield f"  weights      {_gib(it.weights):>11}  {it.parameters:,} numbers of {report.dtype}"
    row = f"{limits.rows} rows of {limits.context} tokens, {it.kv_per_token / 2**10:,.0f} KiB a token"
    yield f"  KV cache     {_gib(it.kv):>11}  {row}"
    yield f"  activations  {_gib(it.activations):>11}  of the largest shape"


def _padding(mix: Sequence[PaddedRequest]) -> Iterator[str]:
    if not mix:
        yield _heading("Padding", "no request of the typical mix fits the limits")
        return
    full, alone = padding_share(mix), padding_share_alone(mix)
    yield _heading("Padding", f"{full:.1%} of this mix in full batches, {alone:.1%} when every request comes alone")
    yield "  share  request         width x height    text  tokens  bucket  padding"
    for each in mix:
        it = each.request
        size = f"{it.size[1]} x {it.size[0]}" if it.size else "-"
        counts = f"{it.text_tokens:>6}  {each.tokens:>6}  {each.bucket:>6}  {each.padding:>7}"
        yield f"  {it.share:>4}%  {it.name:<14}  {size:<14}  {counts}"


def _heading(name: str, text: str) -> str:
    return click.style(f"{name:<11}", bold=True) + text


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
