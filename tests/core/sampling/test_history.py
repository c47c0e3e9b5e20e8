"""Penalties against their formulas, and counts kept on the device against counts made anew."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runtime.runtime import SamplingParameters
from runtime.sampling.history import ROOM, History, PromptCounts
from runtime.sampling.part import Part
from support.sampled import PlainRow

VOCABULARY = 6
CPU = torch.device("cpu")
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=6)
PENALTIES = st.builds(
    SamplingParameters,
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.5]),
    frequency_penalty=st.sampled_from([-1.0, 0.0, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.25]),
    frequency_share=st.sampled_from([0.0, 2.0]),
)


def everyone(rows: list[PlainRow]) -> History:
    part = Part.where(lambda _row: True, rows, CPU)
    assert part is not None
    return History(part, VOCABULARY, PromptCounts())


def expected(score: float, id: int, row: PlainRow) -> float:
    """The formulas of the fields' docstrings."""
    held, sampling = [*row.prompt, *row.generated], row.sampling
    if id in held:
        score = score * sampling.repetition_penalty if score < 0 else score / sampling.repetition_penalty
    score -= sampling.frequency_penalty * row.generated.count(id)
    score -= sampling.presence_penalty * (id in row.generated)
    return score - sampling.frequency_share * held.count(id) / len(held)


@given(st.lists(st.tuples(PENALTIES, TOKENS, TOKENS), min_size=1, max_size=4), st.data())
def test_scores_follow_the_formulas(
    rows: list[tuple[SamplingParameters, list[int], list[int]]], data: st.DataObject
) -> None:
    """For any penalties, prompts, replies and scores, before and after tokens are added."""
    batch = [PlainRow(parameters, prompt=[0, *prompt], generated=list(reply)) for parameters, prompt, reply in rows]
    history = everyone(batch)
    chance = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    for _ in range(data.draw(st.sampled_from([3, ROOM + 2]))):
        scores = (torch.randint(-8, 9, (len(batch), VOCABULARY), generator=chance) / 4).tolist()
        for row, given_scores, got in zip(batch, scores, history.penalised(torch.tensor(scores)).tolist(), strict=True):
            assert got == pytest.approx([expected(score, id, row) for id, score in enumerate(given_scores)], abs=1e-5)
        ids = torch.randint(VOCABULARY, (len(batch),), generator=chance).tolist()
        history.add(ids)
        for row, id in zip(batch, ids, strict=True):
            row.generated.append(id)


def test_other_rows_keep_their_scores() -> None:
    """Rows that are no part of it are untouched to the bit."""
    rows = [PlainRow(), PlainRow(SamplingParameters(presence_penalty=1.0), generated=[2]), PlainRow()]
    part = Part.where(lambda row: row.sampling.presence_penalty != 0, rows, CPU)
    assert part is not None
    scores = torch.arange(3.0 * VOCABULARY).view(3, VOCABULARY)
    changed = History(part, VOCABULARY, PromptCounts()).penalised(scores)
    assert torch.equal(changed[[0, 2]], scores[[0, 2]])
    assert (changed[1] - scores[1]).tolist() == [0, 0, -1, 0, 0, 0]


def test_ids_beyond_the_vocabulary_are_passed_over() -> None:
    """A picture's placeholder may lie beyond the logits' columns; it cannot be chosen, so it needs no penalty."""
    row = PlainRow(SamplingParameters(repetition_penalty=2.0), prompt=[VOCABULARY + 3, 1])
    assert everyone([row]).penalised(torch.ones(1, VOCABULARY)).tolist() == [[1, 0.5, 1, 1, 1, 1]]


def test_row_that_ends_does_not_harm_the_others() -> None:
    """An id below 0 stands for none."""
    row = PlainRow(SamplingParameters(presence_penalty=1.0), prompt=[5])
    history = everyone([PlainRow(SamplingParameters(presence_penalty=1.0)), row])
    history.add([-1, 3])
    assert history.penalised(torch.zeros(2, VOCABULARY))[1].tolist() == [0, 0, 0, -1, 0, 0]


def test_prompts_are_counted_once_and_forgotten_with_their_rows() -> None:
    """A layout after the first does not look at the prompt again; no row is kept alive."""
    prompts, row = PromptCounts(), PlainRow(prompt=[4, 1, 4, VOCABULARY])
    ids, counts = prompts.of(row, VOCABULARY)
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {4: 2, 1: 1}
    assert prompts.of(row, VOCABULARY)[0] is ids
    gone = weakref.ref(row)
    del row
    gc.collect()
    assert gone() is None


def test_banned_ids_stay_banned() -> None:
    """-inf stays -inf, whatever the penalty."""
    row = PlainRow(SamplingParameters(repetition_penalty=0.5, frequency_penalty=-2.0, frequency_share=-2.0), prompt=[1])
    scores = torch.full((1, VOCABULARY), -torch.inf)
    assert everyone([row]).penalised(scores).equal(scores)
