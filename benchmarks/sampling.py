"""What choosing tokens costs: `python benchmarks/sampling.py`.

Times one step of the sampler, and laying out a batch anew, in milliseconds on this machine's CPU with one thread, and
as a ratio to the least any sampler must do, argmax and log-softmax of the same logits in the same run. Medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch
from runtime import demo
from runtime.runtime import Grammar, GrammarKind, SamplingParameters
from runtime.sampling.grammar import GrammarCompiler
from runtime.sampling.matcher import Matcher
from runtime.sampling.mix import prepare
from runtime.sampling.sampler import Sampler

SECONDS = 0.5
"""For each figure."""
PROMPT = 3000
"""Tokens of a prompt; a picture makes up most of it."""
REPLY = 200
"""Tokens after which a reply starts anew, so that all figures are of replies of like length."""
CPU = torch.device("cpu")

GREEDY = [SamplingParameters()]
DRAWN = [SamplingParameters(do_sample=True, temperature=0.7)]
TOP_K = [SamplingParameters(do_sample=True, temperature=0.7, top_k=50)]
TOP_P = [SamplingParameters(do_sample=True, temperature=0.7, top_p=0.9)]
PENALISED = [SamplingParameters(repetition_penalty=1.1, frequency_penalty=0.2)]
WATERMARKED = [SamplingParameters(watermark=True)]
MIXED = [
    *GREEDY,
    *DRAWN,
    *TOP_K,
    *TOP_P,
    *PENALISED,
    *WATERMARKED,
    SamplingParameters(typical_p=0.9),
    SamplingParameters(top_k=20, top_p=0.9, presence_penalty=0.5),
]


@dataclass(eq=False)
class BenchmarkRow:
    """What the sampler reads of a row."""

    sampling: SamplingParameters
    seed: int
    prompt: list[int]
    top_n: int = 0
    matcher: Matcher | None = None
    generated: list[int] = field(default_factory=list)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median time of one call."""
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    work()
    while time.perf_counter() < until or len(times) < 5:
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1e3)
    return median(times)


def rows_of(parameters: list[SamplingParameters], count: int, vocabulary: int) -> list[BenchmarkRow]:
    """Make rows that take the parameters in turn."""
    prompts = torch.randint(vocabulary, (count, PROMPT)).tolist()
    return [BenchmarkRow(parameters[i % len(parameters)], i, prompt) for i, prompt in enumerate(prompts)]


def step(sampler: Sampler, rows: list[BenchmarkRow], logits: torch.Tensor) -> None:
    """Choose, and do to the rows what the engine does."""
    for row, id in zip(rows, sampler.choose(rows, logits).ids, strict=True):
        if len(row.generated) == REPLY:
            row.generated.clear()
        row.generated.append(id)
        if row.matcher is not None:
            row.matcher.advance(id)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    compiler = GrammarCompiler((demo.MODEL / "tokenizer.json").read_text(), {2})
    endless = Grammar(GrammarKind.REGEX, "[a-z ]*")
    print(f"{'rows':>4} {'vocabulary':>10}  {'batch':<24} {'step ms':>8} {'ratio':>6} {'lay out ms':>11}")
    for count in (8, 64):
        for vocabulary in (802, 32064):
            logits = torch.randn(count, vocabulary) * 3
            least = milliseconds(lambda: (logits.argmax(-1).tolist(), logits.log_softmax(-1)))  # noqa: B023
            print(f"{count:>4} {vocabulary:>10}  {'argmax and log-softmax':<24} {least:>8.2f} {1:>6.1f}")
            batches = {
                "greedy": rows_of(GREEDY, count, vocabulary),
                "greedy, top_n_tokens 5": rows_of(GREEDY, count, vocabulary),
                "greedy, grammar": rows_of(GREEDY, count, vocabulary),
                "drawn": rows_of(DRAWN, count, vocabulary),
                "top-k": rows_of(TOP_K, count, vocabulary),
                "top-p": rows_of(TOP_P, count, vocabulary),
                "penalties": rows_of(PENALISED, count, vocabulary),
                "watermark": rows_of(WATERMARKED, count, vocabulary),
                "mixed": rows_of(MIXED, count, vocabulary),
            }
            for row in batches["greedy, top_n_tokens 5"]:
                row.top_n = 5
            for row in batches["greedy, grammar"]:
                row.matcher = compiler.compile(endless)
            for name, rows in batches.items():
                sampler = Sampler()
                chosen = milliseconds(lambda: step(sampler, rows, logits))  # noqa: B023
                laid_out = milliseconds(lambda: prepare(rows, vocabulary, CPU))  # noqa: B023
                print(f"{'':>16} {name:<24} {chosen:>8.2f} {chosen / least:>6.1f} {laid_out:>11.2f}", flush=True)
    compiler.close()


if __name__ == "__main__":
    main()
