"""What we promise ourselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.serving.results import GIGA, Results


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and what it should be."""

    name: str
    figure: float
    bar: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.figure <= self.bar if self.at_most else self.figure >= self.bar


def bars_of(results: Results) -> list[Bar]:
    """Return the bars of the figures there are; none for `tiny`, which is for trying the benchmark out."""
    if results.geometry == "tiny":
        return []
    return [*_shares(results, full=results.geometry == "full"), *_comparisons(results), *_resources(results)]


def _shares(results: Results, full: bool) -> Iterator[Bar]:
    served, bounds = results.served, results.bounds
    if "W3x1" in served:
        decode = served["W3x1"].decode / bounds["W3x1"].decode
        yield Bar("W3x1 decode, share of its bound", decode, 0.45 if full else 0.50)
    if full:
        return
    for name, bar in {"W2": 0.76, "W3x8": 0.66}.items():
        if name in served:
            yield Bar(f"{name} tokens/s, share of its bound", served[name].aggregate / bounds[name].aggregate, bar)
    if "W1" in served:
        first = served["W1"].first_token / (1e3 * bounds["W1"].prompt)
        yield Bar("W1 time to first token, times its bound", first, 1.2, at_most=True)


def _comparisons(results: Results) -> Iterator[Bar]:
    generate, bare = results.generate, results.bare
    served: Mapping[str, float] = {name: figures.aggregate for name, figures in results.served.items()}
    if "W3x1" in generate:
        times = results.served["W3x1"].decode / generate["W3x1"].decode
        yield Bar("W3x1 decode, times transformers generate", times, 2.5)
    if "W3x8" in generate:
        yield Bar("W3x8 tokens/s, times transformers generate", served["W3x8"] / generate["W3x8"].aggregate, 2.5)
    for name in bare:
        yield Bar(f"{name} tokens/s, share of the bare engine", served[name] / bare[name].aggregate, 0.93)
    if results.second_question is not None:
        yield Bar("second question, share of the first's wait", results.second_question, 0.25, at_most=True)


def _resources(results: Results) -> Iterator[Bar]:
    if results.geometry == "small":
        yield Bar("ready, seconds", results.ready_seconds, 8, at_most=True)
        yield Bar("memory after all (PSS), GB", results.memory.proportional / GIGA, 1.3, at_most=True)
    if results.geometry == "full":
        yield Bar("highest memory while loading, GB", results.memory_when_ready.peak / GIGA, 17, at_most=True)
