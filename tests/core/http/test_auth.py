"""The key: exact, on every route but those that probes ask for; and what browsers need to send it."""

from __future__ import annotations

import pytest
from support.asgi import client, text_of
from support.scripted import ScriptedRuntime, last, token

pytestmark = pytest.mark.anyio

ASK = {"inputs": "a"}
LOCKED = [
    *(("POST", path) for path in ("/", "/generate", "/generate_stream", "/tokenize", "/chat_tokenize")),
    *(("POST", path) for path in ("/v1/chat/completions", "/v1/completions", "/invocations", "/vertex", "/nowhere")),
    *(("GET", path) for path in ("/", "/info", "/metrics", "/v1/models", "/docs", "/api-doc/openapi.json", "/nowhere")),
    *((method, "/health") for method in ("POST", "PUT", "TRACE")),
]


@pytest.mark.parametrize(("method", "path"), LOCKED)
async def test_no_key(method: str, path: str) -> None:
    """401 in the one shape, and nothing is computed."""
    runtime = ScriptedRuntime()
    async with client(runtime, api_key="Secret") as http:
        answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert text_of(answer) == "send the API key as `Authorization: Bearer KEY`"
    assert answer.json()["error_type"] == "unauthorized"
    assert not runtime.requests


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/ping"])
async def test_probes_need_no_key(method: str, path: str) -> None:
    """They have none; whether there is a HEAD is for the routes to say."""
    async with client(ScriptedRuntime(), api_key="Secret") as http:
        assert (await http.request(method, path)).status_code in ((200,) if method == "GET" else (200, 405))


@pytest.mark.parametrize(
    "given", ["Bearer secret", "bearer Secret", "Secret", "Bearer Secret ", "Bearer Secret2", "Bearer ", "Bearer \xe9"]
)
async def test_wrong_key(given: str) -> None:
    """Case counts, unlike in TGI, and so does every character."""
    async with client(ScriptedRuntime(last("a", token("a"))), api_key="Secret") as http:
        answer = await http.post("/generate", json=ASK, headers={"authorization": given.encode("latin-1")})  # type: ignore[dict-item]
    assert answer.status_code == 401


async def test_two_keys() -> None:
    """Nobody can know which one a proxy would have meant."""
    async with client(ScriptedRuntime(last("a", token("a"))), api_key="Secret") as http:
        headers = [("authorization", "Bearer Secret"), ("authorization", "Bearer other")]
        assert (await http.post("/generate", json=ASK, headers=headers)).status_code == 401


async def test_right_key() -> None:
    """Lets a request through."""
    async with client(ScriptedRuntime(last("a", token("a"))), api_key="Sécret") as http:
        answer = await http.post("/generate", json=ASK, headers={"authorization": "Bearer Sécret".encode()})  # type: ignore[dict-item]
    assert answer.status_code == 200


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }


async def test_browsers_may_ask_without_the_key() -> None:
    """A preflight has none; it learns that the key may be sent, which TGI forbids."""
    async with client(ScriptedRuntime(), api_key="Secret") as http:
        answer = await http.options("/generate", headers=preflight("http://page"))
        refused = await http.post("/generate", json=ASK, headers={"origin": "http://page"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")


async def test_only_named_origins() -> None:
    """When the operator names some."""
    async with client(ScriptedRuntime(), cors_allow_origins=("http://page", "http://other")) as http:
        known = await http.options("/generate", headers=preflight("http://page"))
        unknown = await http.options("/generate", headers=preflight("http://evil"))
    assert known.headers["access-control-allow-origin"] == "http://page"
    assert unknown.status_code == 400
    assert "access-control-allow-origin" not in unknown.headers
