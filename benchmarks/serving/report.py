"""The results as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.serving.bars import Bar, bars_of
from benchmarks.serving.bounds import Bound
from benchmarks.serving.figures import Figures
from benchmarks.serving.peers import MEASURED, PEERS
from benchmarks.serving.results import GIGA, Results
from benchmarks.serving.server import Memory

HEAD = (
    f"{'':22}{'first token, ms':>18}{'its bound':>10}{'share':>7}"
    f"{'ms/token':>10}{'decode/s':>10}{'bound':>7}{'share':>7}{'tokens/s':>10}{'bound':>7}{'share':>7}"
)


def as_text(results: Results) -> str:
    """Return the report."""
    return "\n".join([*_setting(results), "", *_table(results), "", *_bars(results), "", *_peers()])


def as_json(results: Results) -> dict[str, Any]:
    """Return the same, shares and bars included."""
    shares = {name: _shares(figures, results.bounds[name]) for name, figures in results.served.items()}
    bars = [{**asdict(bar), "met": bar.met} for bar in bars_of(results)]
    peers = {"measured": MEASURED, "shares": [asdict(peer) for peer in PEERS]}
    return {**asdict(results), "shares": shares, "bars": bars, "peers": peers}


def _setting(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    machine = results.machine
    yield f"backend {results.backend}, geometry {results.geometry}, {results.threads} threads; {versions}"
    yield (
        f"{results.new_tokens} new tokens for each request; medians of {results.rounds} rounds; load average before "
        f"{results.load_average:.1f}"
    )
    yield (
        f"this machine, in this run: reads {machine.read / GIGA:.1f} GB/s (by {results.read_by}), multiplies bf16 at "
        f"{machine.multiply / GIGA:.0f} GFLOP/s"
    )
    for name, bound in results.bounds.items():
        yield (
            f"bound of {name}: {bound.requests} x {bound.prompt * machine.multiply / GIGA:.1f} GFLOP of prompt, "
            f"{bound.step * machine.read / 1e6:.1f} MB read for each step"
        )
    ready, after = _memory(results.memory_when_ready), _memory(results.memory)
    yield f"server: ready in {results.ready_seconds:.1f} s; memory (highest) {ready} when ready, {after} after all"


def _memory(memory: Memory) -> str:
    return f"{memory.proportional / GIGA:.2f} ({memory.peak / GIGA:.2f}) GB"


def _table(results: Results) -> Iterator[str]:
    yield HEAD
    for name, figures in results.served.items():
        yield _line(name, figures, results.bounds[name])
    for told, rows in {"bare engine": results.bare, "transformers": results.generate}.items():
        for name, figures in rows.items():
            yield _line(f"{name} {told}", figures, results.bounds[name])


def _line(name: str, figures: Figures, bound: Bound) -> str:
    shares = _shares(figures, bound)
    first = f"{figures.first_token:.0f} / {figures.first_token_p95:.0f}"
    alone = bound.requests == 1  # others wait for each other, which is no matter of one prompt's bound
    first_bound = f"{1e3 * bound.prompt:>10.0f}{shares['first_token']:>7.0%}" if alone else f"{'':17}"
    return (
        f"{name:22}{first:>18}{first_bound}{figures.between_tokens:>10.2f}"
        f"{figures.decode:>10.1f}{bound.decode:>7.0f}{shares['decode']:>7.0%}"
        f"{figures.aggregate:>10.1f}{bound.aggregate:>7.0f}{shares['aggregate']:>7.0%}"
    )


def _shares(figures: Figures, bound: Bound) -> dict[str, float]:
    """Return how near the figures come to the bound; 1 is at it."""
    return {
        "first_token": 1e3 * bound.prompt / figures.first_token,
        "decode": figures.decode / bound.decode,
        "aggregate": figures.aggregate / bound.aggregate,
    }


def _bars(results: Results) -> Iterator[str]:
    for bar in bars_of(results):
        yield _bar_line(bar)


def _bar_line(bar: Bar) -> str:
    wanted = f"{'at most' if bar.at_most else 'at least'} {bar.bar:g}"
    return f"{bar.name:48}{bar.figure:8.2f}   {wanted:14} {'met' if bar.met else 'MISSED'}"


def _peers() -> Iterator[str]:
    yield "Other servers, NOT of this run but"
    yield MEASURED
    yield f"{'share of the bound':34}{'W3x1 decode':>12}{'W2':>8}{'W3x8':>8}"
    for peer in PEERS:
        pictures = "-" if peer.aggregate_w2 is None else f"{peer.aggregate_w2:.0%}"
        yield f"{peer.name:34}{peer.decode_w3x1:>12.0%}{pictures:>8}{peer.aggregate_w3x8:>8.0%}"
