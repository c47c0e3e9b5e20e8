"""The command of TGI-Gaudi's guide, translated, on the virtual device."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import guide
from support.pictures import PICTURES
from support.processes import Server, serving
from support.scrape import read_scrape
from support.virtual_hpu import asking, environment

SMALL = [
    *("--max-input-tokens", "384", "--max-batch-prefill-tokens", "768", "--pad-sequence-to-multiple-of", "384"),
    *("--max-total-tokens", "400", "--max-batch-total-tokens", "800", "--no-prefix-reuse"),
]
"""Of which a warm-up on a CPU takes no longer than a test may."""


def answer(server: Server, tokens: int = 17) -> dict[str, Any]:
    """What the model says about a picture, to a request as the guide has it."""
    body = {"inputs": PICTURES[0].prompt, "parameters": {"max_new_tokens": tokens, "seed": 42}}
    with server.client() as http:
        response = http.post("/generate", json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-compute-type"] == "hpu-emulated"
    found: dict[str, Any] = response.json()
    return found


def test_command_of_the_guide(tmp_path: Path) -> None:
    """Every flag and variable as they are, but for the warm-up; and the answer is right."""
    variables = environment("1.19", None, **guide.VARIABLES)
    words = ("--backend", "hpu", "--model-id", guide.long_model(tmp_path), *guide.FLAGS, "--no-warmup-enabled")
    with serving(*words, variables=variables) as server:
        assert answer(server)["generated_text"].strip().startswith(PICTURES[0].answer)
        with server.client() as http:
            info = http.get("/info").json()
    assert (info["max_batch_size"], info["max_total_tokens"]) == (4, 8192)
    assert info["details"]["emulated"] == "yes"
    assert info["details"]["mode"] == "lazy"
    assert not any("has no effect" in line for line in server.output)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Warmed up, in a mode, with a line to its device. That a lost device is logged with a traceback is right."""
    control = tmp_path_factory.mktemp("control") / "socket"
    variables = environment("1.23", None, **guide.VARIABLES, HPU_MODE=request.param, VIRTUAL_HPU_CONTROL=str(control))
    with serving("--backend", "hpu", "--model-id", "demo", *SMALL, variables=variables) as server:
        server.control = control  # type: ignore[attr-defined]
        yield server
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize("server", ["compile", "lazy"], indirect=True)
def test_after_the_warmup(server: Server) -> None:
    """Answers are right, nothing is recorded or compiled any more, and /info tells what it is served on."""
    with asking(server.control) as device, server.client() as http:  # type: ignore[attr-defined]
        before = device.counters()
        for _ in range(2):
            assert answer(server)["generated_text"].strip().startswith(PICTURES[0].answer)
        after = device.counters()
        details = http.get("/info").json()["details"]
        stats = read_scrape(http.get("/metrics").content)["runtime_backend_stat"].values
    assert {name: after[name] - before[name] for name in ("captures", "compilations", "cpu_fallbacks")} == {
        "captures": 0,
        "compilations": 0,
        "cpu_fallbacks": 0,
    }
    assert details["warmup"] == "done"
    assert details["self_test"].endswith("the same tokens")
    assert details["kernels"] == "FusedSDPA, FusedRMSNorm, apply_rotary_pos_emb"
    assert stats["unknown_shapes"] == 0


@pytest.mark.parametrize("server", ["lazy"], indirect=True)
def test_a_lost_device_is_served_again(server: Server) -> None:
    """The worker ends, and the next one answers the request."""
    lost = server.worker
    with asking(server.control) as device:  # type: ignore[attr-defined]
        device.strike("fatal")
    with server.client() as http:
        answered = http.post("/generate", json={"inputs": "a", "parameters": {"max_new_tokens": 2}})
    assert answered.status_code == 200
    server.wait_for("the worker ended with status 1; restarting it in 1 s")
    server.wait_for("Connected")
    assert server.worker != lost
    assert answer(server)["generated_text"].strip().startswith(PICTURES[0].answer)
