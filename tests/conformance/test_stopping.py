"""Why a reply ends: TGI's order (length, end of sequence, stop text), and what its search for stop texts misses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from runtime.runtime import FinishReason, StoppingParameters
from runtime.sampling.stopping import StopRule
from support.arithmetic import expected
from support.asgi import client
from support.serving import TOKENIZER, arithmetic_runtime, reply, tokens_request

EOS = frozenset({2, 7})
LENGTH, EOS_TOKEN, STOP_SEQUENCE = FinishReason.LENGTH, FinishReason.EOS_TOKEN, FinishReason.STOP_SEQUENCE

VECTORS: dict[str, tuple[dict[str, Any], list[tuple[int, str]], FinishReason | None]] = {
    # what the request says, tokens with their texts, why it ends with the last of them
    "length": ({"max_new_tokens": 2}, [(5, "a"), (5, "b")], LENGTH),
    "length beats end of sequence": ({"max_new_tokens": 2}, [(5, "a"), (2, "</s>")], LENGTH),
    "length beats stop text": ({"max_new_tokens": 1, "stop": ("a",)}, [(5, "a")], LENGTH),
    "end of sequence before the last": ({"max_new_tokens": 3}, [(5, "a"), (2, "</s>")], EOS_TOKEN),
    "end of sequence beats stop text": ({"stop": ("</s>",)}, [(2, "</s>")], EOS_TOKEN),
    "end of sequence ignored": ({"ignore_eos": True}, [(2, "</s>")], None),
    "stop text": ({"stop": ("END",)}, [(5, "a"), (5, " END")], STOP_SEQUENCE),
    "stop text over tokens": ({"stop": ("END",)}, [(5, "E"), (5, "N"), (5, "D")], STOP_SEQUENCE),
    "stop text and a newline": ({"stop": ("END",)}, [(5, "END\n")], STOP_SEQUENCE),
    "one of several": ({"stop": ("no", "yes")}, [(5, "y"), (5, "es")], STOP_SEQUENCE),
    # TGI looks at the end of the text only.
    "stop text inside a token": ({"stop": ("END",)}, [(5, "the END of")], STOP_SEQUENCE),
    "stop text and two newlines": ({"stop": ("END",)}, [(5, "END\n\n")], STOP_SEQUENCE),
    # TGI keeps 200 characters once the text has more than 300.
    "stop text of 350 characters": ({"stop": ("x" * 350,)}, [(5, "x" * 175), (5, "x" * 175)], STOP_SEQUENCE),
    # TGI's shard reads one id, the tokenizer's; this is another of the model's generation_config.json.
    "second end of sequence": ({}, [(7, "<|eot|>")], EOS_TOKEN),
}


@pytest.mark.parametrize(("given", "tokens", "reason"), VECTORS.values(), ids=VECTORS.keys())
def test_reason(given: dict[str, Any], tokens: list[tuple[int, str]], reason: FinishReason | None) -> None:
    """No token before the last ends the reply, and the last one does for this reason."""
    rule = StopRule.of(StoppingParameters(**{"max_new_tokens": 100, **given}), 1000, EOS)
    assert [rule.push(*token) for token in tokens] == [None] * (len(tokens) - 1) + [reason]


@pytest.mark.anyio
@pytest.mark.parametrize(("count", "reason"), [(1, LENGTH), (2, EOS_TOKEN)])
async def test_end_of_sequence_as_the_last_allowed_token(count: int, reason: FinishReason) -> None:
    """Through the engine: the first token after 300 is the end of sequence."""
    async with arithmetic_runtime() as runtime:
        completion = (await reply(runtime, tokens_request([300], count))).completion
    assert completion is not None
    assert (completion.finish_reason, completion.generated_tokens) == (reason, 1)


@pytest.mark.anyio
async def test_stop_text_is_kept() -> None:
    """In the whole text, the stream and the details of TGI's routes."""
    ids = expected(TOKENIZER.encode("What?", add_special_tokens=True), 3)
    text = TOKENIZER.decode([ids[0], ids[1]], skip_special_tokens=True)
    stop = text.split()[-1]
    assert text.count(stop) == 1
    body = {"inputs": "What?", "parameters": {"max_new_tokens": 3, "stop": [stop], "details": True}}
    async with arithmetic_runtime() as runtime, client(runtime) as http:
        whole = (await http.post("/generate", json=body)).json()
        stream = (await http.post("/generate_stream", json=body)).text
    events = [json.loads(frame.removeprefix("data:")) for frame in stream.split("\n\n")[:-1]]
    assert whole["generated_text"].strip() == text.strip()
    assert events[-1]["generated_text"] == whole["generated_text"]
    for details in (whole["details"], events[-1]["details"]):
        assert (details["finish_reason"], details["generated_tokens"]) == ("stop_sequence", 2)
