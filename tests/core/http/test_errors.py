"""Every error has a status and one of two bodies, OpenAI's on OpenAI's routes and TGI's on all others; none leaks."""

from __future__ import annotations

import json
import logging

import pytest
from runtime.errors import (
    BackendContractError,
    BackendError,
    ContextExceeded,
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
from support.asgi import PAYLOAD_LIMIT, client, text_of
from support.scripted import ScriptedRuntime, token

pytestmark = pytest.mark.anyio

TGI = {"inputs": "two"}
CHAT = {"messages": [{"role": "user", "content": "two"}]}
OF_TGI = [("/generate", TGI), ("/generate_stream", TGI), ("/chat_tokenize", CHAT)]
OF_OPENAI = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/completions", {"prompt": "two"}),
]
ROUTES = OF_TGI + OF_OPENAI
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
@pytest.mark.parametrize(("path", "body"), OF_TGI)
async def test_typed_error(
    path: str, body: dict[str, object], error: Exception, status: int, text: str, error_type: str
) -> None:
    """Streams too have the real status, for the first token is awaited before the answer begins."""
    async with client(ScriptedRuntime(error)) as http:
        answer = await http.post(path, json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": text, "error_type": error_type})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "error_type"),
    [
        # Kinds and codes are those of OpenAI's API where it has one for the case (its reference, "Error codes").
        (InvalidRequest("bad"), 422, "invalid_request_error", "invalid_value", "validation"),
        (ContextExceeded("long"), 422, "invalid_request_error", "context_length_exceeded", "validation"),
        (TemplateError("bad"), 422, "invalid_request_error", "template_error", "template_error"),
        (ImageRefused("bad"), 422, "invalid_request_error", "invalid_image", "validation"),
        (ImageUrlNotEnabled("bad"), 422, "invalid_request_error", "invalid_image_url", "validation"),
        (Overloaded("full"), 429, "rate_limit_error", "rate_limit_exceeded", "overloaded"),
        (BackendError("lost"), 424, "server_error", "model_failed", "generation"),
        (NotReady("later"), 503, "server_error", "service_unavailable", "unavailable"),
        (RuntimeServiceError("broken"), 500, "server_error", "internal_error", "generation"),
    ],
)
@pytest.mark.parametrize(("path", "body"), OF_OPENAI)
async def test_typed_error_in_openais_envelope(
    path: str, body: dict[str, object], error: RuntimeServiceError, status: int, kind: str, code: str, error_type: str
) -> None:
    """The text without TGI's prefix, and TGI's type beside the envelope."""
    async with client(ScriptedRuntime(error)) as http:
        answer = await http.post(path, json=body)
    told = answer.json()
    assert (answer.status_code, told["error_type"]) == (status, error_type)
    told["error"].pop("param")
    assert told["error"] == {"message": error.message, "type": kind, "code": code}


@pytest.mark.parametrize(
    ("path", "body", "error", "param"),
    [
        ("/v1/chat/completions", CHAT, ContextExceeded("too long"), "messages"),
        ("/v1/completions", {"prompt": "two"}, ImageRefused("picture 0: no"), "prompt"),
        ("/v1/completions", {"prompt": "two"}, InvalidRequest("`best_of` is"), "best_of"),
        ("/v1/completions", {"prompt": "two"}, InvalidRequest("the prompt is empty"), None),
        ("/v1/completions", {"prompt": "two"}, NotReady("the hook `prefill` is missing"), None),
    ],
)
async def test_field_at_fault(path: str, body: dict[str, object], error: Exception, param: str | None) -> None:
    """The first that the text names, or the one that such errors are about; none when the client is not at fault."""
    async with client(ScriptedRuntime(error)) as http:
        answer = await http.post(path, json=body)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("path", "body", "names"),
    [
        ("/generate", TGI, ("inputs", "max_new_tokens", "top_n_tokens", "decoder_input_details", "grammar")),
        ("/v1/chat/completions", CHAT, ("messages", "max_tokens", "top_logprobs", None, "tools")),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 3}, ("messages", "max_tokens", "top_logprobs", None, "tools")),
        (
            "/v1/chat/completions",
            {**CHAT, "max_tokens": 3, "max_completion_tokens": 4, "response_format": {"type": "json_object"}},
            ("messages", "max_completion_tokens", "top_logprobs", None, "response_format"),
        ),
        ("/v1/completions", {"prompt": "two"}, ("prompt", "max_tokens", "logprobs", "echo", None)),
        ("/vertex", {"instances": [CHAT]}, ("messages", "max_tokens", "top_logprobs", None, "tools")),
        ("/vertex", {"instances": [CHAT, TGI]}, ("inputs", "max_new_tokens", "top_n_tokens", None, "grammar")),
    ],
)
async def test_fields_have_the_names_of_the_route(
    path: str, body: dict[str, object], names: tuple[str | None, ...], stream: bool
) -> None:
    """Wherever in the text they stand, and of two names for one thing the one that the client sent and that counts.

    Where a stream has begun, its event has the same text. A name that the route has no field for is not looked at.
    """
    ours = ("inputs", "max_new_tokens", "top_n_tokens", "decoder_input_details", "grammar")
    told = [(name, field) for name, field in zip(ours, names, strict=True) if field is not None]
    error = InvalidRequest("wrong: " + " and ".join(f"`{name}`" for name, _ in told))
    begun = stream and path != "/vertex"
    script = (Delta((token("a"),)), error) if begun else (error,)
    path = "/generate_stream" if begun and path == "/generate" else path
    async with client(ScriptedRuntime(*script)) as http:
        answer = await http.post(path, json={**body, "stream": begun})
    assert answer.status_code == (200 if begun else 422)
    assert "wrong: " + " and ".join(f"`{field}`" for _, field in told) in answer.text


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_unexpected_error(path: str, body: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that the server failed and nothing else; the log has the cause."""
    async with client(ScriptedRuntime(ValueError("/secret/path"))) as http:
        answer = await http.post(path, json=body)
    assert answer.status_code == 500
    assert text_of(answer) == "the server failed; its log has the cause"
    assert answer.json()["error_type"] == "generation"
    assert "/secret/path" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


@pytest.mark.parametrize(("path", "body"), [OF_TGI[0], OF_OPENAI[0]])
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
    text = "Input validation error: the body is not valid JSON: it goes wrong at character 11"
    assert answer.json()["error"] == text


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
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "film"}]}]},
            "content.0` must have one of 'text', 'image_url' as its `type`, got \"film\"",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "\ud800"}]}]}, "content.0`"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "`messages.0.content.0.image_url.url` is required",
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
    assert named in text_of(answer)
    assert not runtime.requests


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere", "/v1", "/v12"])
async def test_unknown_path(path: str) -> None:
    """404, with the place where the routes are listed."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get(path)
    assert answer.status_code == 404
    assert text_of(answer) == f"there is no {path} here; the routes are listed at /docs"
    assert isinstance(answer.json()["error"], dict) is (path.split("/")[1] == "v1")


@pytest.mark.parametrize("path", ["/generate", "/v1/completions"])
async def test_wrong_method(path: str) -> None:
    """405, with the methods there are."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.json()["error_type"]) == (405, "validation")
    assert text_of(answer) == f"{path} does not take GET; use POST"
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "code"),
    [
        ("/v1/chat/completions", b"{", 400, "invalid_request_error", "invalid_json"),
        ("/v1/chat/completions", b"{}", 422, "invalid_request_error", "missing_required_parameter"),
        ("/v1/nowhere", b"{}", 404, "invalid_request_error", "unknown_url"),
        ("/v1/models", b"{}", 405, "invalid_request_error", "method_not_supported"),
        ("/v1/completions", b"x" * (PAYLOAD_LIMIT + 1), 413, "invalid_request_error", "request_too_large"),
    ],
)
async def test_refusals_before_a_route(path: str, body: bytes, status: int, kind: str, code: str) -> None:
    """In OpenAI's words too."""
    async with client(ScriptedRuntime()) as http:
        answer = await http.post(path, content=body, headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (status, kind, code)


async def test_wrong_key() -> None:
    """In OpenAI's words too."""
    async with client(ScriptedRuntime(), api_key="Secret") as http:
        answer = await http.post("/v1/completions", json={})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")


async def test_documentation_has_the_body_of_each_route() -> None:
    """For every status that is documented and no answer."""
    async with client(ScriptedRuntime()) as http:
        description = (await http.get("/api-doc/openapi.json")).json()
    for path, operations in description["paths"].items():
        name = "OpenAIErrorBody" if path.startswith("/v1/") else "ErrorBody"
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema == {"$ref": f"#/components/schemas/{name}"}, (path, status)
