"""Server-sent events: how TGI frames them, and what a client of either generation must read."""

from __future__ import annotations

import functools
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from runtime.cli import main
from support.asgi import client
from support.scripted import ScriptedRuntime, last, token

PROMPT = {"inputs": "a", "stream": True}
CHAT = {"messages": [{"role": "user", "content": "a"}], "stream": True}

ENDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
    # route, body, options of the server, whether the stream ends with [DONE]
    "generate_stream": ("/generate_stream", {"inputs": "a"}, {}, False),
    "compatible": ("/", PROMPT, {}, False),
    "invocations": ("/invocations", PROMPT, {}, False),
    "chat": ("/v1/chat/completions", CHAT, {}, True),
    "completions": ("/v1/completions", {"prompt": "a", "stream": True}, {}, True),
    "invocations of conversations": ("/invocations", CHAT, {"messages_api_enabled": True}, True),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("route", "body", "options", "done"), ENDS.values(), ids=ENDS.keys())
async def test_frames(route: str, body: dict[str, Any], options: dict[str, Any], done: bool) -> None:
    """Each is one line of data, a space after the colon; only OpenAI's end with a mark."""
    async with client(ScriptedRuntime(last("a", token("a"))), **options) as http:
        text = (await http.post(route, json=body)).text
    *frames, rest = text.split("\n\n")
    assert rest == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    assert (frames[-1] == "data: [DONE]") is done
    assert "[DONE]" not in "".join(frames[:-1])


@pytest.mark.parametrize("colon", [":", ": "], ids=["TGI 2.0", "TGI 2.3"])
def test_a_client_reads_both(colon: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runtime ask` takes data with a space after the colon and without, and passes over comments."""
    chunk = '{"choices":[{"index":0,"delta":{"content":"a fox"}}]}'
    stream = f":\n\ndata{colon}{chunk}\n\ndata{colon}[DONE]\n\n"
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, text=stream))
    monkeypatch.setattr(httpx, "Client", functools.partial(httpx.Client, transport=transport))
    result = CliRunner().invoke(main, ["ask", "--url", "http://server", "What?"])
    assert (result.exit_code, result.stdout) == (0, "a fox\n")
