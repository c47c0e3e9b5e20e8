"""A worker goes on with a reply that another one began."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime import demo
from runtime.errors import InvalidRequest, PromptChanged
from runtime.prompt_digest import prompt_digest
from runtime.runtime import (
    Delta,
    GenerateRequest,
    Grammar,
    GrammarKind,
    Resumption,
    StepRequest,
    StoppingParameters,
    TextPart,
)
from runtime.sampling.grammar import GrammarCompiler
from support.arithmetic import EOS, expected
from support.serving import arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio

PROMPT = [1, 500, 600]
REQUESTS = {
    "greedy": tokens_request(PROMPT, 8),
    "sampled": tokens_request(PROMPT, 8, do_sample=True, temperature=3.0, seed=7),
    "narrowed": tokens_request(PROMPT, 8, top_p=0.9, top_k=30, temperature=2.0, seed=8),
    "penalised": tokens_request(PROMPT, 8, repetition_penalty=1.3, presence_penalty=1.0, frequency_penalty=1.0),
    "watermarked": tokens_request(PROMPT, 8, watermark=True),
    "with candidates": dataclasses.replace(tokens_request(PROMPT, 8), top_n_tokens=3),
}


def resumed(request: GenerateRequest, tokens: list[int], digest: str = "") -> GenerateRequest:
    return dataclasses.replace(request, resumption=Resumption(tuple(tokens), digest))


def untimed(delta: Delta) -> Delta:
    """Without what differs from run to run."""
    assert delta.completion is not None
    completion = dataclasses.replace(delta.completion, timings=None)
    return Delta(delta.tokens, completion)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("name", REQUESTS)
async def test_rest_is_what_would_have_followed(name: str, count: int) -> None:
    """To the token, its probability, its text and the whole text at the end, however it is chosen."""
    request = REQUESTS[name]
    async with arithmetic_runtime() as runtime:
        whole = await reply(runtime, request)
        rest = await reply(runtime, resumed(request, ids(whole)[:count]))
    assert untimed(rest) == untimed(dataclasses.replace(whole, tokens=whole.tokens[count:]))


async def test_neighbours_notice_nothing() -> None:
    """A row that is computed again runs beside others."""
    request, neighbour = REQUESTS["greedy"], tokens_request([1, 700], 8)
    async with arithmetic_runtime() as runtime:
        first, second = runtime.generate(neighbour), runtime.generate(resumed(request, expected(PROMPT, 8)[:5]))
        told = [ids(await anext(first)), ids(await anext(second))]
        async for delta in first:
            told[0] += ids(delta)
        async for delta in second:
            told[1] += ids(delta)
    assert told == [expected([1, 700], 8), expected(PROMPT, 8)[5:]]


async def test_text_before_counts_for_stop_texts() -> None:
    """A stop text that began before the failure and ends behind it ends the reply."""
    async with arithmetic_runtime() as runtime:
        whole = await reply(runtime, REQUESTS["greedy"])
        middle = whole.tokens[3].text[-1:] + whole.tokens[4].text
        request = dataclasses.replace(REQUESTS["greedy"], stopping=StoppingParameters(max_new_tokens=8, stop=(middle,)))
        rest = await reply(runtime, resumed(request, ids(whole)[:4]))
    assert ids(rest) == ids(whole)[4:5]
    assert rest.completion is not None
    assert rest.completion.text.endswith(middle)
    assert rest.completion.generated_tokens == 5


async def test_grammar_goes_on_where_it_was() -> None:
    """It has read the tokens before."""
    grammars = GrammarCompiler((demo.MODEL / "tokenizer.json").read_text(), [EOS])
    request = dataclasses.replace(
        tokens_request([1, 500], 20, temperature=1.5, seed=3), grammar=Grammar(GrammarKind.REGEX, "[a-c]{6}[0-9]{3}")
    )
    async with arithmetic_runtime(grammars=grammars) as runtime:
        whole = await reply(runtime, request)
        rest = await reply(runtime, resumed(request, ids(whole)[:4]))
    assert untimed(rest) == untimed(dataclasses.replace(whole, tokens=whole.tokens[4:]))


async def test_digest_of_the_prompt_is_told_once() -> None:
    """With the first token of a new reply, and not again."""
    async with arithmetic_runtime() as runtime:
        told = [delta.prompt_digest async for delta in runtime.generate(REQUESTS["greedy"])]
        again = [delta.prompt_digest async for delta in runtime.generate(resumed(REQUESTS["greedy"], [702]))]
    assert told[0] == prompt_digest(PROMPT, None)
    assert set(told[1:] + again) <= {""}


async def test_prompt_that_changed() -> None:
    """A picture behind an address may not be what it was."""
    digest = prompt_digest(PROMPT, None)
    async with arithmetic_runtime() as runtime:
        rest = await reply(runtime, resumed(REQUESTS["greedy"], expected(PROMPT, 8)[:2], digest))
        assert ids(rest) == expected(PROMPT, 8)[2:]
        with pytest.raises(PromptChanged, match="send the request again"):
            await reply(runtime, resumed(tokens_request([1, 500, 601], 8), [702], digest))


async def test_prompt_is_told_once() -> None:
    """Its log-probabilities came with the first token."""
    request = dataclasses.replace(REQUESTS["greedy"], prompt_logprobs=True)
    async with arithmetic_runtime() as runtime:
        deltas = [delta async for delta in runtime.generate(resumed(request, expected(PROMPT, 8)[:2]))]
    assert not any(delta.prefill for delta in deltas)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (resumed(tokens_request(PROMPT, 3), [700, 701, 702]), "nothing is left to generate"),
        (
            dataclasses.replace(GenerateRequest(parts=(TextPart("a"),)), resumption=Resumption((1, 2), "not a digest")),
            "cannot go on",
        ),
    ],
)
async def test_what_cannot_be_resumed(request_: GenerateRequest, text: str) -> None:
    """Is refused before anything is computed."""
    async with arithmetic_runtime() as runtime:
        with pytest.raises((InvalidRequest, PromptChanged), match=text):
            await reply(runtime, request_)


async def test_step_operations_resume_nothing() -> None:
    """Their caller holds the tokens."""
    async with arithmetic_runtime() as runtime:
        with pytest.raises(InvalidRequest, match="`resumption`"):
            await runtime.prefill([StepRequest(1, resumed(REQUESTS["greedy"], [702]))])


@given(
    st.lists(st.integers(0, 2**31 - 1), max_size=4),
    st.lists(st.integers(0, 2**31 - 1), max_size=4),
)
def test_digests_differ_where_prompts_do(one: list[int], other: list[int]) -> None:
    """And are equal where they are."""
    assert (prompt_digest(one, None) == prompt_digest(other, None)) == (one == other)


async def test_metrics_count_what_is_told() -> None:
    """A token computed again is neither a first token nor a generated one."""
    async with arithmetic_runtime() as runtime:
        await reply(runtime, resumed(REQUESTS["greedy"], expected(PROMPT, 8)[:5]))
        lines = (await runtime.metrics()).decode().splitlines()
    assert "tgi_request_generated_tokens_sum 3.0" in lines
