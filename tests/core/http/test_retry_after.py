"""`Retry-After`, on every route, with the errors that a later request may not meet."""

from __future__ import annotations

from typing import Any

import pytest
from runtime.errors import BackendError, InvalidRequest, NotReady, Overloaded, RuntimeServiceError
from support.asgi import client
from support.scripted import ScriptedRuntime

pytestmark = pytest.mark.anyio

TGI = {"inputs": "two"}
CHAT = {"messages": [{"role": "user", "content": "two"}]}
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/", TGI),
    ("/generate", TGI),
    ("/generate_stream", TGI),
    ("/tokenize", TGI),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/completions", {"prompt": "two"}),
]


@pytest.mark.parametrize(("path", "body"), ROUTES)
@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (Overloaded("full", retry_after=41.5), 429, "42"),
        (Overloaded("full"), 429, "5"),
        (NotReady("it warms up", retry_after=90), 503, "90"),
        (NotReady("it is being restarted"), 503, "5"),
        (BackendError("lost", retry_after=3), 424, None),
        (InvalidRequest("bad"), 422, None),
    ],
)
async def test_retry_after(
    path: str, body: dict[str, Any], error: RuntimeServiceError, status: int, header: str | None
) -> None:
    """Whole seconds, before a stream has begun as well."""
    async with client(ScriptedRuntime(error)) as http:
        answer = await http.post(path, json=body)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, header)
