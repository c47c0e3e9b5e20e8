"""What both processes say on standard output once they serve."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from support.processes import serving

QUESTION = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 3}}
CHAT = {"messages": [{"role": "user", "content": "What shape is green?"}], "max_tokens": 3}
TOO_LONG = {"inputs": "What shape is green?", "parameters": {"max_new_tokens": 100_000}}


def test_one_line_for_each_request(arithmetic_plugin: Path) -> None:
    """By whichever route it came; nothing else is said but that the server stops, and nothing of the question."""
    with serving("--backend", "arithmetic", "--model-id", "demo", folders=[arithmetic_plugin]) as server:
        with server.client() as http:
            assert http.post("/generate", json=QUESTION).status_code == 200
            assert http.post("/v1/chat/completions", json=CHAT).status_code == 200
            assert http.post("/generate", json=TOO_LONG).status_code == 422
            for path in ("/health", "/info", "/metrics"):
                assert http.get(path).status_code == 200
        assert server.events(QUESTION)
        quiet = len(server.output)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    *requests, last = [line.partition("Z  INFO ")[2] for line in server.output[quiet:]]
    ends = [re.match(r"worker: (\w+) request_id=\w{16} (\w+)=(\w+) ", line) for line in requests]
    success = ("Success", "finish_reason", "length")
    assert [end and end.groups() for end in ends] == [
        success,
        success,
        ("Failure", "error", "ContextExceeded"),
        success,
    ]
    assert last == "serve: stopping"
    assert not any("shape" in line for line in requests)
