"""Bodies of a form that no request needs are refused before anything is built from them; all others are as before."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime.http.app import create_app
from runtime.http.json_limit import DEPTH, NUMBER_CHARACTERS, VALUES, Malformed, check_form
from runtime.http.options import HttpOptions
from support.asgi import client, text_of
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

HEADERS = {"content-type": "application/json"}
BAD = {
    "deep lists": (b"[" * (DEPTH + 1), f"nests deeper than {DEPTH}"),
    "deep objects": (b'{"a":' * (DEPTH + 1), f"nests deeper than {DEPTH}"),
    "deep, after strings": (b'{"a\\\\\\"": "]]]}", "b": ' + b"[" * DEPTH, f"nests deeper than {DEPTH}"),
    "many values": (b"[" + b"0," * VALUES + b"0]", "more than 262144 values"),
    "many lists": (b"[" + b"[]," * VALUES + b"[]]", "more than 262144 values"),
    "many strings": (b'["' + b'","' * (3 * VALUES) + b'"]', "more than 262144 values"),
    "long number": (b'{"inputs": ' + b"1" * (NUMBER_CHARACTERS + 1) + b"}", "more than 400 characters"),
    "long fraction": (b"[0." + b"1" * NUMBER_CHARACTERS + b"]", "more than 400 characters"),
    "NaN": (b'{"inputs": NaN}', "NaN and Infinity"),
    "infinity": (b'{"inputs": -Infinity}', "NaN and Infinity"),
    "UTF-16": ('{"inputs": "two"}'.encode("utf-16"), "not UTF-8"),
    "UTF-32": ('{"inputs": "two"}'.encode("utf-32-be"), "not UTF-8"),
}


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions", "/invocations"])
@pytest.mark.parametrize("bad", BAD)
async def test_refused(path: str, bad: str) -> None:
    """400 in the envelope of the route; nothing is asked of the runtime."""
    body, text = BAD[bad]
    runtime = ScriptedRuntime()
    app = create_app(runtime, HttpOptions(payload_limit=2**22))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http:
        answer = await http.post(path, content=body, headers=HEADERS)
    assert answer.status_code == 400
    assert text in text_of(answer)
    assert answer.json()["error_type"] == "validation"
    assert not runtime.requests


@pytest.mark.parametrize(
    "text", ["[" * 1000, "}" * 1000, "NaN", '\\"[', "\\", '\\\\"', "1" * 5000, "\u2028\U0001f600", ",[{" * VALUES]
)
async def test_texts_are_free(text: str) -> None:
    """What stands in a string has no form."""
    check_form(json.dumps({"inputs": text}).encode())
    check_form(json.dumps({"inputs": text}, ensure_ascii=False).encode())


async def test_at_the_limits() -> None:
    """As deep, as many and as long as may be."""
    check_form(b"[" * DEPTH + b"]" * DEPTH)
    check_form(json.dumps([0] * (VALUES - 1)).encode())
    check_form(json.dumps({"a": 10 ** (NUMBER_CHARACTERS - 1)}).encode())
    async with client(ScriptedRuntime(last("a", token("a")))) as http:
        assert (await http.post("/generate", json={"inputs": "two", "ignored": [1.7e308]})).status_code == 200


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_sane_values_pass(value: Any, is_ascii: bool) -> None:
    """Whatever they are and however they are written."""
    try:
        body = json.dumps(value, ensure_ascii=is_ascii).encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return
    check_form(body)


@given(st.binary())
def test_any_bytes(body: bytes) -> None:
    """A verdict, never another error."""
    try:
        check_form(body)
    except Malformed:
        return


@pytest.mark.parametrize("field", ["temperature", "top_p", "repetition_penalty", "frequency_penalty", "typical_p"])
@pytest.mark.parametrize("number", [str(10**399), "-" + "9" * 399, "1e999", "-1e999"])
async def test_numbers_beyond_floats(field: str, number: str) -> None:
    """Refused by name, as any number out of range."""
    runtime = ScriptedRuntime(last("a", token("a")))
    async with client(runtime) as http:
        body = f'{{"inputs": "two", "parameters": {{"{field}": {number}}}}}'
        answer = await http.post("/generate", content=body, headers=HEADERS)
    if answer.status_code == 200:  # the runtime, which checks ranges, is a script here
        sampling = runtime.requests[0].sampling
        assert not math.isfinite(getattr(sampling, field)), "a number of another value was taken"
        return
    assert answer.status_code == 422
    assert field in text_of(answer)
