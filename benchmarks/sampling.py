"""What choosing tokens costs: `python benchmarks/sampling.py`.

Times one step of the sampler, and laying out a batch anew, in milliseconds on this machine's CPU with one thread. Each
step is compared with a naive one, the textbook's filters row by row over the sorted vocabulary, and with a bound, the
torch operations that nobody can do without. The three take turns in one process, so that a busy machine is as hard on
one as on the others; medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import torch
from runtime import demo
from runtime.runtime import Grammar, GrammarKind, SamplingParameters
from runtime.sampling.grammar import GrammarCompiler
from runtime.sampling.history import PromptCounts
from runtime.sampling.matcher import Matcher
from runtime.sampling.mix import prepare
from runtime.sampling.sampler import Sampler

SECONDS: Final = 1.5
"""For each line of the table."""
VOCABULARY: Final = 32064
WORDS: Final = 120
PICTURE: Final = [32000] * 2880
"""Tokens of a prompt: a picture, whose tokens are all the same, and words."""
REPLY: Final = 200
"""Tokens after which a reply starts anew, so that all figures are of replies of like length."""
CPU: Final = torch.device("cpu")


@dataclass(eq=False)
class BenchmarkRow:
    """What the sampler reads of a row."""

    sampling: SamplingParameters
    seed: int
    prompt: list[int]
    top_n: int = 0
    matcher: Matcher | None = None
    known: int | None = None
    generated: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    parameters: Sequence[SamplingParameters]
    """Taken by the rows in turn."""
    bound: Callable[[torch.Tensor], object]
    top_n: int = 0
    grammar: Grammar | None = None
    flat: bool = False
    """Whether thousands of ids are likely, as at the first word of a poem; else a few dozen, as mostly."""


def _greedy_bound(logits: torch.Tensor) -> object:
    return logits.argmax(dim=-1), logits.log_softmax(dim=-1)


def _draw_bound(logits: torch.Tensor) -> object:
    return logits.softmax(dim=-1), logits.log_softmax(dim=-1)


def _top_k_bound(logits: torch.Tensor) -> object:
    return logits.topk(50, dim=-1)


def _mass_bound(logits: torch.Tensor) -> object:
    return logits.log_softmax(dim=-1), logits.topk(256, dim=-1)


def _sort_bound(logits: torch.Tensor) -> object:
    return logits.sort(dim=-1, descending=True)


GREEDY: Final = SamplingParameters()
DRAWN: Final = SamplingParameters(do_sample=True, temperature=0.7)
TOP_K: Final = SamplingParameters(temperature=0.7, top_k=50)
TOP_P: Final = SamplingParameters(temperature=0.7, top_p=0.9)
TYPICAL: Final = SamplingParameters(temperature=0.7, typical_p=0.9)
PENALISED: Final = SamplingParameters(repetition_penalty=1.1, frequency_penalty=0.2)
WATERMARKED: Final = SamplingParameters(watermark=True)
EVERYTHING: Final = SamplingParameters(top_k=20, top_p=0.9, typical_p=0.9, presence_penalty=0.5)
CASES: Final = [
    Case("greedy", [GREEDY], _greedy_bound),
    Case("greedy, top_n_tokens 5", [GREEDY], _greedy_bound, top_n=5),
    Case("greedy, grammar", [GREEDY], _greedy_bound, grammar=Grammar(GrammarKind.REGEX, "[a-z ]*")),
    Case("temperature", [DRAWN], _draw_bound),
    Case("top-k", [TOP_K], _top_k_bound),
    Case("top-p", [TOP_P], _mass_bound),
    Case("typical-p", [TYPICAL], _mass_bound),
    Case("top-p, flat", [TOP_P], _sort_bound, flat=True),
    Case("penalties", [PENALISED], _greedy_bound),
    Case("watermark", [WATERMARKED], _greedy_bound),
    Case("mixed", [GREEDY, DRAWN, TOP_K, TOP_P, TYPICAL, PENALISED, WATERMARKED, EVERYTHING], _mass_bound),
]


def logits_of(rows: int, flat: bool) -> torch.Tensor:
    """Make scores as models give them: a few ids stand out; where it is flat, none does."""
    scores = torch.randn(rows, VOCABULARY) * 2
    likely = torch.rand(rows, VOCABULARY).topk(40, dim=-1).indices
    return scores if flat else scores.scatter(-1, likely, 16 - 2 * torch.arange(40).sqrt().expand(rows, -1))


def rows_of(case: Case, count: int, compiler: GrammarCompiler) -> list[BenchmarkRow]:
    """Make rows that take the parameters in turn."""
    rows = []
    for place, words in enumerate(torch.randint(VOCABULARY, (count, WORDS)).tolist()):
        matcher = None if case.grammar is None else compiler.compile(case.grammar)
        sampling = case.parameters[place % len(case.parameters)]
        rows.append(BenchmarkRow(sampling, place, PICTURE + words, case.top_n, matcher))
    return rows


def step(sampler: Sampler, rows: list[BenchmarkRow], logits: torch.Tensor) -> float:
    """Return the milliseconds of choosing; then do to the rows what the engine does."""
    started = time.perf_counter()
    chosen = sampler.choose(rows, logits)
    took = time.perf_counter() - started
    for row, id in zip(rows, chosen.ids, strict=True):
        if len(row.generated) == REPLY:
            row.generated.clear()
        row.generated.append(id)
        if row.matcher is not None:
            row.matcher.advance(id)
    return took * 1e3


def naive(rows: list[BenchmarkRow], logits: torch.Tensor) -> None:
    """Choose as a textbook does, without grammars and watermarks."""
    for row, scores in zip(rows, logits, strict=True):
        scores = _naively_filtered(row, scores)
        logprobs = scores.log_softmax(dim=-1)
        id = int(logprobs.exp().multinomial(1) if row.sampling.draws else logprobs.argmax())
        float(logprobs[id])
        if row.top_n:
            order = logprobs.argsort(descending=True, stable=True)[: row.top_n]
            list(zip(order.tolist(), logprobs[order].tolist(), strict=True))


def _naively_filtered(row: BenchmarkRow, scores: torch.Tensor) -> torch.Tensor:
    sampling = row.sampling
    if sampling.repetition_penalty != 1:
        held = torch.tensor(sorted({*row.prompt, *row.generated}))
        own = scores[held]
        repeated = torch.where(own < 0, own * sampling.repetition_penalty, own / sampling.repetition_penalty)
        scores = scores.scatter(0, held, repeated)
    if sampling.frequency_penalty or sampling.presence_penalty:
        counts = torch.bincount(torch.tensor(row.generated, dtype=torch.int64), minlength=VOCABULARY)
        scores = scores - sampling.frequency_penalty * counts - sampling.presence_penalty * (counts > 0)
    if sampling.draws:
        scores = scores / sampling.temperature
    if sampling.top_k:
        scores = scores.masked_fill(scores < scores.sort(descending=True).values[sampling.top_k - 1], -torch.inf)
    if sampling.top_p < 1:
        scores = _naive_mass(scores, scores.argsort(descending=True, stable=True), sampling.top_p)
    if sampling.typical_p < 1:
        logprobs = scores.log_softmax(dim=-1)
        entropy = -(logprobs.exp() * logprobs).nansum()
        scores = _naive_mass(scores, (-logprobs - entropy).abs().argsort(stable=True), sampling.typical_p)
    return scores


def _naive_mass(scores: torch.Tensor, order: torch.Tensor, p: float) -> torch.Tensor:
    mass = scores.softmax(dim=-1)[order].cumsum(dim=-1)
    return scores.index_fill(0, order[1:][mass[:-1] >= p], -torch.inf)


def milliseconds(work: Callable[[], object]) -> float:
    """Return the time of one call."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    compiler = GrammarCompiler((demo.MODEL / "tokenizer.json").read_text(), {2})
    print(f"vocabulary {VOCABULARY}; milliseconds")
    print(f"{'rows':>4}  {'batch':<24} {'step':>8} {'naive':>9} {'ratio':>7} {'bound':>8} {'ratio':>6} {'lay out':>8}")
    for count in (1, 8, 64):
        for case in CASES:
            logits, rows, sampler = logits_of(count, case.flat), rows_of(case, count, compiler), Sampler()
            prompts = PromptCounts()
            times: list[tuple[float, float, float, float]] = []
            until = time.perf_counter() + SECONDS
            while time.perf_counter() < until or len(times) < 4:
                ours = step(sampler, rows, logits)
                textbook, least = milliseconds(lambda: naive(rows, logits)), milliseconds(lambda: case.bound(logits))  # noqa: B023
                times.append((ours, textbook, least, milliseconds(lambda: prepare(rows, VOCABULARY, CPU, prompts))))  # noqa: B023
            ours, textbook, least, laid_out = map(median, zip(*times[1:], strict=True))
            ratios = f"{ours:>8.2f} {textbook:>9.2f} {ours / textbook:>7.3f} {least:>8.2f} {ours / least:>6.1f}"
            print(f"{count:>4}  {case.name:<24} {ratios} {laid_out:>8.2f}", flush=True)
    compiler.close()


if __name__ == "__main__":
    main()
