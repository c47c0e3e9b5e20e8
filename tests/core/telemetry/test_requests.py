"""One line for each request, with the facts of it and nothing that its sender wrote."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from runtime.errors import InvalidRequest, Overloaded, RuntimeServiceError, TemplateError
from runtime.runtime import GenerateRequest, Grammar, GrammarKind, StoppingParameters, TextPart
from runtime.telemetry.logs import set_up_logs
from runtime.telemetry.pictures import PictureCost
from runtime.telemetry.request_facts import parameters_of
from support.arithmetic import FAILS_LATER
from support.gated import ONE_ROW, GatedBackend, submissions
from support.logs import logging_restored
from support.serving import TokenPrompt, arithmetic_runtime, reply, tokens_request
from support.serving import prepare as prepare_tokens

pytestmark = pytest.mark.anyio
TIMES = ("total_time", "validation_time", "queue_time", "inference_time")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what the set-up does to the whole process."""
    with logging_restored():
        yield


class Lines:
    """The log of a worker from here on, in JSON."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        set_up_logs("worker", as_json=True)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]


async def test_success(capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, times that add up, and the parameters that are not neutral."""
    lines = Lines(capsys)
    async with arithmetic_runtime() as runtime:
        answer = await reply(runtime, tokens_request([1, 500, 600], 4, temperature=0.5, seed=7))
    (line,) = lines.read()
    assert answer.completion is not None
    assert (line["level"], line["target"], line["message"]) == ("INFO", "worker", "Success")
    assert re.fullmatch("[0-9a-f]{16}", line["request_id"])
    assert line["finish_reason"] == answer.completion.finish_reason.value
    assert (line["prompt_tokens"], line["images"], line["image_tokens"]) == (3, 0, 0)
    assert (line["cached_tokens"], line["padding"]) == (0, 0)
    assert line["generated_tokens"] == len(answer.tokens)
    assert line["seed"] == 7
    assert line["parameters"] == {"temperature": 0.5, "max_new_tokens": 4}
    assert line["total_time"] == pytest.approx(sum(line[name] for name in TIMES[1:]), abs=3e-6)
    assert line["time_per_token"] == pytest.approx(line["inference_time"] / line["generated_tokens"], abs=1e-6)
    assert "error" not in line


async def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts, each without a space in it."""
    set_up_logs("worker")
    async with arithmetic_runtime() as runtime:
        await reply(runtime, tokens_request([1, 500, 600], 4, repetition_penalty=1.5))
    (line,) = capsys.readouterr().out.splitlines()
    head, *facts = line.partition("worker: ")[2].split(" ")
    told = dict(fact.split("=") for fact in facts)
    assert head == "Success"
    assert (told["finish_reason"], told["prompt_tokens"], told["generated_tokens"]) == ("length", "3", "4")
    assert told["parameters"] == "repetition_penalty:1.5,max_new_tokens:4"
    assert "seed" not in told, "a greedy reply draws none"
    assert set(TIMES) < set(told)


async def test_pictures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """With the tokens that all of them came to."""
    lines = Lines(capsys)
    costs = (PictureCost(10, 3, {}), PictureCost(20, 5, {}))
    async with arithmetic_runtime(prepare=lambda request: TokenPrompt((1, *[500] * 30), pictures=costs)) as runtime:
        await reply(runtime, tokens_request([1], 2))
    (line,) = lines.read()
    assert (line["prompt_tokens"], line["images"], line["image_tokens"]) == (31, 2, 30)


@pytest.mark.parametrize(
    ("request_", "error", "cause", "level"),
    [
        (tokens_request([1, 500], top_k=-1), "InvalidRequest", "validation", "INFO"),
        (tokens_request([1, 500, 600], 1000), "ContextExceeded", "validation", "INFO"),
        (tokens_request([1, FAILS_LATER], 5), "BackendError", "generation", "WARNING"),
    ],
)
async def test_failure(
    capsys: pytest.CaptureFixture[str], request_: GenerateRequest, error: str, cause: str, level: str
) -> None:
    """The class of the error and TGI's name for the cause; a warning when it is the server's."""
    lines = Lines(capsys)
    async with arithmetic_runtime() as runtime:
        with pytest.raises(RuntimeServiceError):
            await reply(runtime, request_)
    line = lines.read()[-1]
    assert (line["message"], line["error"], line["cause"], line["level"]) == ("Failure", error, cause, level)
    assert line["total_time"] >= 0
    assert "finish_reason" not in line


async def test_failure_after_the_first_token(capsys: pytest.CaptureFixture[str]) -> None:
    """What was delivered and where the time went is known."""
    lines = Lines(capsys)
    async with arithmetic_runtime() as runtime:
        with pytest.raises(RuntimeServiceError):
            await reply(runtime, tokens_request([1, FAILS_LATER], 5))
    failed, line = lines.read()
    assert (failed["level"], failed["message"]) == ("ERROR", "backend arithmetic failed in decode")
    assert (line["generated_tokens"], line["prompt_tokens"]) == (1, 2)
    assert set(TIMES) < set(line)


async def test_failure_before_the_prompt_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to count and only one time to tell."""
    lines = Lines(capsys)
    async with arithmetic_runtime() as runtime:
        with pytest.raises(InvalidRequest):
            await reply(runtime, tokens_request([1, 500], top_k=-1))
    (line,) = lines.read()
    assert not {"prompt_tokens", *TIMES[1:], "time_per_token", "seed"} & set(line)


async def test_bug_is_a_failure_too(capsys: pytest.CaptureFixture[str]) -> None:
    """No request goes without its line."""
    lines = Lines(capsys)

    def broken(_request: GenerateRequest) -> TokenPrompt:
        raise ZeroDivisionError

    async with arithmetic_runtime(prepare=broken) as runtime:
        with pytest.raises(ZeroDivisionError):
            await reply(runtime, tokens_request([1, 500]))
    (line,) = lines.read()
    assert (line["error"], line["cause"]) == ("ZeroDivisionError", "generation")


async def test_hang_up(capsys: pytest.CaptureFixture[str]) -> None:
    """While it streams, and while it waits in the queue: all its time until then went there."""
    lines = Lines(capsys)
    backend = GatedBackend(ONE_ROW)
    async with arithmetic_runtime(backend, ONE_ROW) as runtime:
        stream = runtime.generate(tokens_request([1, 500], 20))
        await anext(stream)
        given = submissions(runtime)
        waiting = asyncio.ensure_future(reply(runtime, tokens_request([1, 500], 20)))
        await given.acquire()
        await backend.started()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await stream.aclose()
        backend.gate.release(100)
    queued, streamed = lines.read()
    assert [line["message"] for line in (queued, streamed)] == ["Dropped"] * 2
    assert [line["level"] for line in (queued, streamed)] == ["INFO"] * 2
    assert [line["generated_tokens"] for line in (queued, streamed)] == [0, 1]
    assert streamed["inference_time"] > 0
    assert "time_per_token" not in queued


async def test_reader_that_leaves_after_the_last_token(capsys: pytest.CaptureFixture[str]) -> None:
    """Has its reply: that is a success, and one line."""
    lines = Lines(capsys)
    async with arithmetic_runtime() as runtime:
        stream = runtime.generate(tokens_request([1, 500], 1))
        await anext(stream)
        await stream.aclose()
        exposition = (await runtime.metrics()).decode().splitlines()
    (line,) = lines.read()
    assert line["message"] == "Success"
    assert 'tgi_request_failure{err="dropped"} 0.0' in exposition


async def test_budget_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """n requests are n lines, each with an id of its own, and nothing else is said at INFO or above."""
    lines = Lines(capsys)

    def prepare(request: GenerateRequest) -> TokenPrompt:
        prompt = prepare_tokens(request)
        if 399 in prompt.tokens:
            raise TemplateError("refused")
        return prompt

    kinds = (tokens_request([1, 500], 5), tokens_request([1, 399]), tokens_request([1, 500], top_k=-1))
    async with arithmetic_runtime(prepare=prepare, max_concurrent_requests=8) as runtime:
        coming = (reply(runtime, request) for _ in range(4) for request in kinds)
        outcomes = await asyncio.gather(*coming, return_exceptions=True)
        stream = runtime.generate(tokens_request([1, 500], 50))
        await anext(stream)
        await stream.aclose()
        await runtime.tokenize(tokens_request([1, 500]))
        await runtime.health()
        await runtime.metrics()
    told = lines.read()
    assert len(told) == 13
    assert len({line["request_id"] for line in told}) == 13
    overloaded = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
    assert sum(line.get("cause") == "overloaded" for line in told) == overloaded > 0
    assert sum(line["message"] == "Dropped" for line in told) == 1


async def test_nothing_that_was_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """No prompt, stop sequence, grammar, reply or message of an error, in either form."""
    secret = "xyzzy"
    request = GenerateRequest(
        parts=(TextPart(f"the word is {secret}"),),
        stopping=StoppingParameters(3, stop=(f"{secret}.",)),
        grammar=Grammar(GrammarKind.REGEX, f"{secret}*"),
    )

    def refuse(request: GenerateRequest) -> TokenPrompt:
        raise TemplateError(f"cannot say {secret}")

    for as_json in (False, True):
        set_up_logs("worker", as_json)
        async with arithmetic_runtime() as runtime:
            answer = await reply(runtime, replace(request, grammar=None))
            with pytest.raises(InvalidRequest):
                await reply(runtime, request)
        async with arithmetic_runtime(prepare=refuse) as runtime:
            with pytest.raises(TemplateError):
                await reply(runtime, request)
        told = capsys.readouterr().out
        assert told.count("\n") == 3
        assert secret not in told
        assert answer.tokens[0].text.strip() not in told


def test_parameters_in_short() -> None:
    """Texts by their count or kind; neutral values and the seed are left out; JSON can hold every value."""
    request = replace(
        tokens_request([1], 5, temperature=math.nan, top_k=3, do_sample=True, watermark=True, seed=8),
        stopping=StoppingParameters(None, stop=("a", "b"), ignore_eos=True),
        grammar=Grammar(GrammarKind.JSON_SCHEMA, "{}"),
        truncate=9,
        top_n_tokens=2,
        prompt_logprobs=True,
    )
    assert parameters_of(request) == {
        "do_sample": True,
        "temperature": "nan",
        "top_k": 3,
        "watermark": True,
        "stop": 2,
        "ignore_eos": True,
        "truncate": 9,
        "grammar": "json",
        "top_n_tokens": 2,
        "decoder_input_details": True,
    }
    assert parameters_of(GenerateRequest()) == {}
    assert parameters_of(tokens_request([1], None, top_p=0.699999988079071)) == {"top_p": 0.7}
