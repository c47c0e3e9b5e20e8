"""What is fuzzed of requests: functions of bytes that fail when something is wrong with what is made of them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import cache
from typing import Any

import httpx
from fastapi import FastAPI
from google.protobuf.message import DecodeError
from runtime import demo
from runtime.errors import InvalidRequest
from runtime.http.app import create_app
from runtime.http.options import HttpOptions
from runtime.parameters import check_parameters
from runtime.prompt.chat import ChatTemplate
from runtime.prompt.markdown import split_markdown
from runtime.prompt.tokenizer import Tokenizer
from runtime.rpc.convert.generate_v3 import routed_request_from
from runtime.rpc.convert.request import request_from, request_message
from runtime.runtime import (
    Delta,
    GenerateRequest,
    ImageUrlPart,
    Message,
    Part,
    TextPart,
    Tokenization,
)
from runtime.v1 import messages_pb2
from runtime.v3 import generate_pb2
from support.scripted import ScriptedRuntime, last, token

NOT_HERE = (501, 503)
"""A part that is not installed, or cannot serve now: no failures."""


class Conveyed(ScriptedRuntime):
    """Answers all requests that could go to a worker, and come out there as they went in."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        _convey(request)
        async for delta in super().generate(request):
            yield delta

    async def tokenize(self, request: GenerateRequest) -> Tokenization:
        _convey(request)
        return await super().tokenize(request)


def _convey(request: GenerateRequest) -> None:
    sent = request_message(request).SerializeToString()
    arrived = request_from(messages_pb2.Request.FromString(sent))
    check_parameters(arrived, max_stop_sequences=4)
    assert (arrived.parts, arrived.messages) == (request.parts, request.messages)
    assert (arrived.grammar, arrived.truncate) == (request.grammar, request.truncate)


@cache
def _app() -> FastAPI:
    runtime = Conveyed(Delta((token("a"),)), last("ab", token("b")))
    runtime.requests = _Forgotten()
    return create_app(runtime, HttpOptions(payload_limit=1_000_000))


class _Forgotten(list[GenerateRequest]):
    def append(self, request: GenerateRequest) -> None: ...


def routes() -> list[str]:
    """The paths that take a body."""
    return sorted(path for path, methods in _app().openapi()["paths"].items() if "post" in methods)


def http(data: bytes) -> None:
    """A path, and behind a new line the body to send there: an answer, or a refusal in words; never a failure."""
    path, _, body = data.partition(b"\n")
    if path.decode(errors="replace") not in routes():
        return
    loop = asyncio.new_event_loop()  # not asyncio.run, which would leave others without theirs
    try:
        response = loop.run_until_complete(_post(path.decode(), body))
    finally:
        loop.close()
    if response.status_code == 200:
        streamed = response.headers["content-type"].startswith("text/event-stream")
        assert streamed or response.json() is not None
        return
    assert response.status_code < 500 or response.status_code in NOT_HERE, response.text
    told = response.json()["error"]
    assert isinstance(told, str) or isinstance(told["message"], str)
    assert not re.search(r"Traceback|pydantic|\.py\b", response.text.replace(body.decode(errors="replace"), ""))


async def _post(path: str, body: bytes) -> httpx.Response:
    transport = httpx.ASGITransport(_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.post(path, content=body, headers={"content-type": "application/json"})


def grpc(data: bytes) -> None:
    """A message of ours: a request that can be told again, or a refusal."""
    with suppress(DecodeError, InvalidRequest):
        _check_again(request_from(messages_pb2.Request.FromString(data)))


def grpc_v3(data: bytes) -> None:
    """The same of a message of TGI's."""
    with suppress(DecodeError, InvalidRequest):
        _check_again(routed_request_from(generate_pb2.Request.FromString(data)))


def _check_again(request: GenerateRequest) -> None:
    again = request_from(request_message(request))
    assert again == request
    check_parameters(request, max_stop_sequences=4)


def markdown(data: bytes) -> None:
    """The pictures that a regular expression finds, and everything else as it was."""
    text = data.decode(errors="surrogateescape")
    split = re.split(r"!\[\]\(([^)]*)\)", text)
    expected: list[Part] = []
    for place, piece in enumerate(split):
        if place % 2:
            expected.append(ImageUrlPart(piece))
        elif piece:
            expected.append(TextPart(piece))
    assert split_markdown(text) == tuple(expected or [TextPart("")])


PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}:{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %};{% endfor %}"
)


def chat(data: bytes) -> None:
    """Turns as JSON, of each the role and a list of texts, in which null is a picture: no text becomes a picture."""
    turns = _turns(data)
    if turns is None:
        return
    messages = tuple(Message(role, tuple(map(_part, contents))) for role, contents in turns)
    pictures = [ImageUrlPart("picture")] * sum(contents.count(None) for _, contents in turns)
    rendered = ChatTemplate(PLAIN_TEMPLATE, "<s>", "</s>").render(messages, "<image>")
    assert _joined(rendered) == "".join(
        f"{role}:" + "".join("\0" if text is None else text for text in contents) + ";" for role, contents in turns
    )
    with suppress(InvalidRequest):
        rendered = _demo_template().render(messages, "<image>")
        assert [part for part in rendered if isinstance(part, ImageUrlPart)] == pictures


def _turns(data: bytes) -> list[tuple[str, list[str | None]]] | None:
    """Read turns; None where there are none."""
    try:
        turns: Any = json.loads(data)
        valid = all(
            isinstance(role, str) and all(text is None or isinstance(text, str) for text in contents)
            for role, contents in turns
        )
    except (ValueError, TypeError, RecursionError):
        return None
    return [(role, list(contents)) for role, contents in turns] if valid else None


def _part(text: str | None) -> Part:
    return ImageUrlPart("picture") if text is None else TextPart(text)


def _joined(parts: tuple[Part, ...]) -> str:
    return "".join(part.text if isinstance(part, TextPart) else "\0" for part in parts)


@cache
def _demo_template() -> ChatTemplate:
    loaded = ChatTemplate.load(demo.MODEL, Tokenizer.load(demo.MODEL, None))
    assert loaded is not None
    return loaded
