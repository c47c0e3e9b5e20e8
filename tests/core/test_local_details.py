"""What a request may ask to be told beside its reply, and in which form the reply must be."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from runtime import demo
from runtime.backend import PrefillBatch, PrefillOutput
from runtime.errors import InvalidRequest
from runtime.hookspecs import hookimpl
from runtime.runtime import Delta, Grammar, GrammarKind
from runtime.sampling.grammar import GrammarCompiler
from support.arithmetic import EOS, ArithmeticBackend, expected, next_token
from support.serving import LIMITS, MODEL, TOKENIZER, arithmetic_runtime, ids, reply, tokens_request

pytestmark = pytest.mark.anyio


async def test_top_tokens_are_told_best_first() -> None:
    """By the rule the candidates are the next ids, each half as probable as the one before."""
    request = replace(tokens_request([1, 500], 3), top_n_tokens=3)
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, request)
    for token in answer.tokens:
        assert [candidate.id for candidate in token.top] == [token.id, token.id + 1, token.id + 2]
        assert [candidate.logprob for candidate in token.top] == pytest.approx(
            [-math.log(2) * power for power in (1, 2, 3)], rel=1e-4
        )
        assert token.top[0].text == token.text


async def test_prompt_logprobs_come_with_the_first_token() -> None:
    """A token at distance d from what the rule expects there has the probability 2 ** -(d + 1)."""
    prompt = [1, 500, 600, 403]
    async with arithmetic_runtime() as runtime:
        request = replace(tokens_request(prompt, 3), prompt_logprobs=True)
        deltas = [delta async for delta in runtime.generate(request)]
        plain = await reply(runtime, tokens_request(prompt, 3))
    told = deltas[0].prefill
    distances = [(prompt[i] - next_token(sum(prompt[:i]))) % MODEL.vocabulary for i in range(1, len(prompt))]
    assert [token.id for token in told] == prompt
    assert told[0].logprob is None
    assert [token.logprob for token in told[1:]] == pytest.approx([-math.log(2) * (d + 1) for d in distances], rel=1e-4)
    assert "".join(token.text for token in told) == TOKENIZER.decode(prompt, skip_special_tokens=False)
    assert all(delta.prefill == () for delta in deltas[1:])
    assert plain == Delta(plain.tokens, plain.completion)


async def test_backend_without_prompt_logprobs_is_named() -> None:
    """The request is refused; a neighbour that did not ask is served."""

    class Silent(ArithmeticBackend):
        @hookimpl
        def prefill(self, batch: PrefillBatch) -> PrefillOutput:
            return super().prefill(replace(batch, prompt_logprobs=False))

    async with arithmetic_runtime(Silent(MODEL.vocabulary, LIMITS)) as runtime:
        with pytest.raises(InvalidRequest, match="backend arithmetic cannot tell the log-probabilities"):
            await reply(runtime, replace(tokens_request([1, 500], 3), prompt_logprobs=True))
        assert ids(await reply(runtime, tokens_request([1, 500], 3))) == expected([1, 500], 3)


async def test_grammar_shapes_the_reply() -> None:
    """A regular expression is followed whatever the backend prefers, and then the reply ends."""
    pytest.importorskip("llguidance")
    grammars = GrammarCompiler((demo.MODEL / "tokenizer.json").read_text(), [EOS])
    request = replace(tokens_request([1, 500], 20), grammar=Grammar(GrammarKind.REGEX, "[a-c]{3}[0-9]"))
    async with arithmetic_runtime(grammars=grammars) as runtime:
        answer = await reply(runtime, request)
        broken = replace(request, grammar=Grammar(GrammarKind.REGEX, "(["))
        with pytest.raises(InvalidRequest):
            await reply(runtime, broken)
    assert answer.completion is not None
    assert re.fullmatch("[a-c]{3}[0-9]", answer.completion.text.strip())
    assert ids(answer)[-1] == EOS


async def test_grammar_without_a_compiler_is_refused() -> None:
    """A server that has no text cannot follow one."""
    async with arithmetic_runtime() as runtime:
        with pytest.raises(InvalidRequest, match="`grammar` is not served"):
            await reply(runtime, replace(tokens_request([1, 500]), grammar=Grammar(GrammarKind.REGEX, "a")))


async def test_metrics_count_requests_and_steps() -> None:
    """Two replies of three tokens and one refusal, under TGI's names."""
    async with arithmetic_runtime() as runtime:
        for _ in range(2):
            answer = await reply(runtime, tokens_request([1, 500], 3))
        with pytest.raises(InvalidRequest):
            await reply(runtime, tokens_request([1, 500], 1000))
        lines = (await runtime.metrics()).decode().splitlines()
    assert "tgi_request_count 3.0" in lines
    assert "tgi_request_success 2.0" in lines
    assert 'tgi_request_failure{err="validation"} 1.0' in lines
    assert 'tgi_batch_inference_success{method="prefill"} 2.0' in lines
    assert 'tgi_batch_inference_success{method="decode"} 4.0' in lines
    assert "tgi_request_generated_tokens_sum 6.0" in lines
    assert "tgi_request_max_new_tokens_sum 6.0" in lines
    assert "tgi_queue_size 0.0" in lines
    assert "runtime_time_to_first_token_seconds_count 2.0" in lines
    assert answer.completion is not None
    assert answer.completion.timings is not None
    timings = answer.completion.timings
    assert timings.total == pytest.approx(timings.validation + timings.queue + timings.inference)
