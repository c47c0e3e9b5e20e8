"""Every error has a status and the one shape `{"error": ..., "error_type": ...}`, and leaks nothing."""

from __future__ import annotations

import json
import logging

import pytest
from runtime.errors import (
    BackendContractError,
    BackendError,
    ImageRefused,
    ImageUrlNotEnabled,
    InvalidRequest,
    NotReady,
    Overloaded,
    RuntimeServiceError,
    TemplateError,
    UnknownBatch,
)
from runtime.runtime import Delta
from support.asgi import client
from support.scripted import ScriptedRuntime, token

pytestmark = pytest.mark.anyio

TGI = {"inputs": "two"}
CHAT = {"messages": [{"role": "user", "content": "two"}]}
ROUTES = [
    ("/generate", TGI),
    ("/generate_stream", TGI),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
]
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("error", "status", "text", "error_type"),
    [
        # The first four rows are TGI's own (router/src/server.rs); its texts of validation have the prefix.
        (InvalidRequest("bad"), 422, "Input validation error: bad", "validation"),
        (TemplateError("bad"), 422, "Input validation error: bad", "template_error"),
        (Overloaded("full"), 429, "full", "overloaded"),
        (BackendError("lost"), 424, "lost", "generation"),
        (BackendContractError("lost"), 424, "lost", "generation"),
        (ImageRefused("bad"), 422, "Input validation error: bad", "validation"),
        (ImageUrlNotEnabled("bad"), 422, "Input validation error: bad", "validation"),
        (NotReady("later"), 503, "later", "unavailable"),
        (UnknownBatch("gone"), 404, "gone", "validation"),
        (RuntimeServiceError("broken"), 500, "broken", "generation"),
    ],
)
@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_typed_error(
    path: str, body: dict[str, object], error: Exception, status: int, text: str, error_type: str
) -> None:
    """Streams too have the real status, for the first token is awaited before the answer begins."""
    async with client(ScriptedRuntime(error)) as http:
        answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": text, "error_type": error_type})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_unexpected_error(path: str, body: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that the server failed and nothing else; the log has the cause."""
    async with client(ScriptedRuntime(ValueError("/secret/path"))) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the server failed; its log has the cause", "error_type": "generation"}
    assert "/secret/path" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


@pytest.mark.parametrize(("path", "body"), [ROUTES[0], ROUTES[2]])
async def test_reply_without_an_end(path: str, body: dict[str, object]) -> None:
    """A stream of ours that stops in the middle is a bug of ours, and no reply."""
    async with client(ScriptedRuntime(Delta((token("a"),)))) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 500


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/v1/chat/completions"])
@pytest.mark.parametrize("body", [b"{", b"", b'{"inputs": "two"', b"two", b"\xff\xfe", b"[" * 9000])
async def test_no_json(path: str, body: bytes) -> None:
    """Anything that does not parse is 400, or 422 when there is nothing to parse."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post(path, content=body, headers=JSON)
    assert answer.status_code == (400 if body else 422)
    assert set(answer.json()) == {"error", "error_type"}
    assert answer.json()["error_type"] == "validation"
    assert not runtime.requests


async def test_malformed_json_says_so() -> None:
    """TGI answers 400 here, and 422 for JSON of the wrong form."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post("/generate", content=b'{"inputs": ', headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"] == "Input validation error: the body is not valid JSON"


@pytest.mark.parametrize("headers", [{"content-type": "application/x-www-form-urlencoded"}, {}])
async def test_json_without_its_header(headers: dict[str, str]) -> None:
    """What `curl -d` sends by itself; the text tells the header to add."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post("/generate", content=b'{"inputs": "two"}', headers=headers)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/generate", {}, "`inputs`"),
        ("/generate", {"inputs": 5}, "`inputs`"),
        ("/generate", {"inputs": "two", "parameters": None}, "`parameters`"),
        ("/generate", {"inputs": "two", "parameters": {"max_new_tokens": "many"}}, "`parameters.max_new_tokens`"),
        ("/generate", {"inputs": "two", "parameters": {"stop": "one"}}, "`parameters.stop`"),
        ("/generate", {"inputs": "two", "parameters": {"stop": [1]}}, "`parameters.stop.0`"),
        ("/generate", [], "the body must be a JSON object"),
        ("/v1/chat/completions", {}, "`messages`"),
        ("/v1/chat/completions", {"messages": []}, "`messages`"),
        ("/v1/chat/completions", {"messages": [{"content": "two"}]}, "`messages.0.role`"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}, "`messages.0.content`"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "film"}]}]}, "'film'"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "\ud800"}]}]}, "content.0`"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "image_url.url`",
        ),
        ("/v1/chat/completions", {**CHAT, "stop": 5}, "`stop`"),
        ("/v1/chat/completions", {**CHAT, "model": "\ud800"}, "`model`"),
        ("/v1/chat/completions", {**CHAT, "model": "m" * 1025}, "`model`"),
    ],
)
async def test_wrong_types_name_the_field(path: str, body: object, named: str) -> None:
    """422, and the text has the path to the field."""
    runtime = ScriptedRuntime()
    async with client(runtime) as http:
        answer = await http.post(path, content=json.dumps(body), headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("Input validation error: ")
    assert named in answer.json()["error"]
    assert not runtime.requests


async def test_unknown_path() -> None:
    """404 in the same shape."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get("/nowhere")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found", "error_type": "validation"})


async def test_wrong_method() -> None:
    """405 in the same shape, with the methods there are."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get("/generate")
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed", "error_type": "validation"})
    assert answer.headers["allow"] == "POST"
