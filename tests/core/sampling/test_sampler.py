"""Choosing tokens, many rows at once."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.runtime import Grammar, GrammarKind, SamplingParameters
from runtime.sampling.choices import NOT_A_NUMBER, Choices, Scored
from runtime.sampling.grammar import GrammarCompiler
from runtime.sampling.sampler import Sampler
from support.sampled import PlainRow, imagined_logits

GREEDY = SamplingParameters()
VOCABULARY = 832
"""More than the tokenizer's 802, as in models whose vocabulary is padded."""


def pick(logits: Sequence[Sequence[float]], rows: Sequence[PlainRow]) -> Choices:
    return Sampler().choose(rows, torch.tensor(logits))


def seeded(parameters: SamplingParameters, count: int) -> list[PlainRow]:
    return [PlainRow(parameters, seed) for seed in range(count)]


def test_greedy_takes_the_best_and_tells_its_probability() -> None:
    """Probabilities 1/4 and 3/4: the second is chosen, with log(3/4)."""
    chosen = pick([[0.0, math.log(3)]], [PlainRow()])
    assert chosen.ids == [1]
    assert chosen.logprobs == pytest.approx([math.log(0.75)])
    assert chosen.top == [()]


def test_draws_follow_the_distribution() -> None:
    """Over 8,000 steps of one seed, probabilities 1/2, 1/4, 1/8, 1/8 are met within 4 standard deviations."""
    count = 8000
    logits = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8]).log().expand(count, 4)
    replies = [0] * count
    rows = [PlainRow(SamplingParameters(do_sample=True), 99, generated=replies[:step]) for step in range(count)]
    seen = torch.bincount(torch.tensor(Sampler().choose(rows, logits).ids), minlength=4) / count
    for frequency, p in zip(seen.tolist(), [1 / 2, 1 / 4, 1 / 8, 1 / 8], strict=True):
        assert abs(frequency - p) < 4 * math.sqrt(p * (1 - p) / count)


def test_temperature_sharpens_before_the_draw() -> None:
    """At temperature 1/2 probabilities are squared: 3:1 becomes 9:1, and the log-probability says so."""
    rows = seeded(SamplingParameters(temperature=0.5), 400)
    chosen = pick([[math.log(3), 0.0]] * 400, rows)
    for id, logprob in zip(chosen.ids, chosen.logprobs, strict=True):
        assert logprob == pytest.approx(math.log(0.9 if id == 0 else 0.1), rel=1e-5)
    assert 320 < chosen.ids.count(0) < 395


@pytest.mark.parametrize("narrowed", [{"top_k": 2}, {"top_p": 0.6}, {"typical_p": 0.6}])
def test_dropped_candidates_are_never_drawn(narrowed: dict[str, float]) -> None:
    """250 seeds only see the kept ids."""
    rows = seeded(SamplingParameters(**narrowed), 250)  # type: ignore[arg-type]
    assert set(pick([[0.0, 2.0, 1.9, -1.0, 0.5]] * 250, rows).ids) == {1, 2}


def test_tiny_temperature_is_greedy() -> None:
    """A temperature that would overflow the scores still chooses, the best."""
    assert pick([[50.0, 51.0, -50.0]], [PlainRow(SamplingParameters(temperature=1e-40), 3)]).ids == [1]


def test_row_of_no_numbers_is_told() -> None:
    """NaN anywhere, or an infinite best score, spoils its row and no other; -inf is a banned token."""
    inf, nan = math.inf, math.nan
    logits = [[0.0, nan, 1.0], [0.0, inf, 1.0], [-inf, -inf, -inf], [0.0, -inf, 1.0]]
    penalised = SamplingParameters(presence_penalty=0.1, repetition_penalty=1.1)
    for parameters in (GREEDY, SamplingParameters(do_sample=True, top_k=1, typical_p=0.9), penalised):
        chosen = pick(logits, [PlainRow(parameters, top_n=3) for _ in range(4)])
        assert chosen.ids == [NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER, 2]
        assert 0 < len(chosen.top[3]) <= 2


def test_penalties_count_what_was_chosen_before() -> None:
    """With a presence penalty of 1 and steps of 0.6, the reply goes through ids 3, 2 and so on as each loses 1."""
    row = PlainRow(SamplingParameters(presence_penalty=1.0), prompt=[3])
    sampler = Sampler()
    for _ in range(4):
        row.generated += sampler.choose([row], torch.tensor([[0.0, 0.6, 1.2, 1.8]])).ids
    assert row.generated == [3, 2, 3, 3]


def test_watermark_favours_the_list_of_the_newest_token() -> None:
    """Of equal scores one of the list is taken; without a reply the prompt's last token counts."""
    from runtime.sampling.watermark import green_list

    for row in (PlainRow(SamplingParameters(watermark=True), prompt=[4, 7]), PlainRow(prompt=[7])):
        (id,) = pick([[0.0] * 50], [row]).ids
        assert (id == green_list(7, 50, 0.5).nonzero()[0].item()) == row.sampling.watermark
    replying = PlainRow(SamplingParameters(watermark=True), prompt=[7], generated=[9])
    assert pick([[0.0] * 50], [replying]).ids == [green_list(9, 50, 0.5).nonzero()[0].item()]


def test_best_candidates_are_of_the_distribution_drawn_from() -> None:
    """After top-k 3 and a temperature of 1/2: 8:4:2:1 becomes 16:4:1 of 21; the dropped one is not told."""
    logits = [[math.log(weight) for weight in (1, 8, 2, 4)]] * 3
    parameters = SamplingParameters(temperature=0.5, top_k=3)
    chosen = pick(logits, [PlainRow(parameters, top_n=4), PlainRow(), PlainRow(GREEDY, top_n=1)])
    assert [id for id, _ in chosen.top[0]] == [1, 3, 2]
    assert [math.exp(logprob) for _, logprob in chosen.top[0]] == pytest.approx([16 / 21, 4 / 21, 1 / 21])
    assert chosen.top[1] == ()
    assert [id for id, _ in chosen.top[2]] == [1]
    assert chosen.top[2][0][1] == chosen.logprobs[2]


def test_ties_among_candidates_go_to_the_lower_id() -> None:
    """Exactly as many as wanted are told."""
    assert [id for id, _ in pick([[1.0, 2.0, 1.0, 1.0]], [PlainRow(top_n=3)]).top[0]] == [1, 0, 2]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Grows with every reading of a tensor by the host."""
    read: list[torch.Size] = []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: read.append(tensor.shape) or to_list(tensor))
    return read


EVERYTHING = [
    GREEDY,
    SamplingParameters(do_sample=True),
    SamplingParameters(top_k=4, top_p=0.9, typical_p=0.9, repetition_penalty=2.0, watermark=True),
    SamplingParameters(top_p=0.9),
    SamplingParameters(typical_p=0.9),
]


@pytest.mark.parametrize("rows", [1, 10])
def test_results_come_over_in_one_copy(rows: int, reads: list[torch.Size]) -> None:
    """Ids, log-probabilities and candidates of all rows are read from the device once."""
    logits = torch.arange(VOCABULARY).expand(rows, VOCABULARY) * 0.5
    Sampler().choose([PlainRow(EVERYTHING[row % 5], top_n=2) for row in range(rows)], logits)
    assert len(reads) == 1


def test_flat_distribution_takes_a_second_look(reads: list[torch.Size]) -> None:
    """Of 832 equal scores hundreds stay, so more are looked at: once, and for such rows only."""
    steep = torch.arange(VOCABULARY) * 0.5
    logits = torch.stack([steep, torch.zeros(VOCABULARY), torch.zeros(VOCABULARY)])
    rows = [PlainRow(SamplingParameters(top_p=0.9), seed) for seed in range(3)]
    chosen = Sampler().choose(rows, logits)
    assert [size.numel() for size in reads] == [3 * 2, 2 * 2]
    assert chosen.logprobs[1:] == pytest.approx([-math.log(0.9 * VOCABULARY)] * 2, abs=0.01)


def test_ties_among_many_candidates_go_to_the_lower_id() -> None:
    """Of 832 equal scores the first five are told, for greedy rows as for those that draw."""
    rows = [PlainRow(GREEDY, top_n=5), PlainRow(SamplingParameters(top_k=2), top_n=5)]
    for top in pick([[0.0] * VOCABULARY] * 2, rows).top:
        assert [id for id, _ in top] == [0, 1, 2, 3, 4]
        assert [logprob for _, logprob in top] == pytest.approx([-math.log(VOCABULARY)] * 5)


PARAMETERS = st.builds(
    SamplingParameters,
    do_sample=st.booleans(),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 40, 200, 600, 10_000]),
    top_p=st.sampled_from([0.4, 0.9, 1.0]),
    typical_p=st.sampled_from([0.4, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    presence_penalty=st.sampled_from([0.0, -0.4]),
    frequency_share=st.sampled_from([0.0, 1.5]),
    watermark=st.booleans(),
)
GRAMMARS = st.sampled_from(
    [
        None,
        Grammar(GrammarKind.REGEX, "[a-z]{4}-[0-9]{1,8}"),
        Grammar(GrammarKind.JSON_SCHEMA, '{"type": "array", "items": {"type": "boolean"}, "maxItems": 3}'),
    ]
)
WANTED = st.tuples(PARAMETERS, st.integers(0, 2**64 - 1), GRAMMARS, st.integers(0, 3))
STEPS = 6


def fresh(wanted: tuple[SamplingParameters, int, Grammar | None, int], compiler: GrammarCompiler) -> PlainRow:
    parameters, seed, grammar, top_n = wanted
    matcher = None if grammar is None else compiler.compile(grammar)
    return PlainRow(parameters, seed, prompt=[1, seed % 802], top_n=top_n, matcher=matcher)


def advance(sampler: Sampler, rows: Sequence[PlainRow]) -> list[tuple[int, float, tuple[Scored, ...]]]:
    """Do what the stepper does; rows differ in how steep their distributions are."""
    logits = [imagined_logits(row, VOCABULARY, spread=0.1 + row.seed % 5) for row in rows]
    chosen = sampler.choose(rows, torch.stack(logits))
    for row, id in zip(rows, chosen.ids, strict=True):
        row.generated.append(id)
        if row.matcher is not None:
            row.matcher.advance(id)  # type: ignore[attr-defined]
    return list(zip(chosen.ids, chosen.logprobs, chosen.top, strict=True))


@settings(deadline=None)  # compiling a grammar for the first time takes long
@given(st.lists(WANTED, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_reply_does_not_depend_on_neighbours(
    compiler: GrammarCompiler,
    wanted: list[tuple[SamplingParameters, int, Grammar | None, int]],
    chance: random.Random,
) -> None:
    """Whatever shares its steps, in whatever order and from whatever step on, each row gets what it gets alone."""
    rows = [fresh(each, compiler) for each in wanted]
    together: list[list[tuple[int, float, tuple[Scored, ...]]]] = [[] for _ in rows]
    sampler = Sampler()
    while unfinished := [place for place, told in enumerate(together) if len(told) < STEPS]:
        batch = chance.sample(unfinished, chance.randint(1, len(unfinished)))
        for _ in range(min(chance.randint(1, 3), STEPS - max(len(together[place]) for place in batch))):
            for place, told in zip(batch, advance(sampler, [rows[place] for place in batch]), strict=True):
                together[place].append(told)
    for each, told in zip(wanted, together, strict=True):
        row, alone = fresh(each, compiler), Sampler()
        assert [advance(alone, [row])[0] for _ in range(STEPS)] == told


def test_parameters_are_laid_out_anew_when_rows_change() -> None:
    """Rows of equal content are still different rows."""
    sampler, parameters = Sampler(), SamplingParameters(presence_penalty=5.0)
    logits = torch.tensor([[1.0, 0.0]])
    first, second = PlainRow(parameters), PlainRow(replace(parameters))
    assert [sampler.choose([row], logits).ids for row in (first, second)] == [[0], [0]]
