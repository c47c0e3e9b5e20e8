"""Receipts of a real server, and `runtime replay` against it and another."""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runtime import demo
from runtime.cli import main
from support.processes import Server, serving

GREEDY = {"max_new_tokens": 24, "receipt": True}
SAMPLED = {**GREEDY, "do_sample": True, "temperature": 1.5}
Replay = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The bundled model on the fast backend, whose numbers depend on neighbours but for the flag."""
    with serving("--backend", "cpu", "--model-id", "demo", "--deterministic") as server:
        yield server


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    """Run the command on these documents."""

    def run(server: Server, receipt: object, request: Mapping[str, Any]) -> Result:
        files = {"receipt": receipt, "request": request}
        for name, content in files.items():
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        arguments = [str(tmp_path / "receipt"), "--request", str(tmp_path / "request"), "--url", server.http]
        return CliRunner(env={"NO_PROXY": "*"}).invoke(main, ["replay", *arguments])

    return run


def asking(parameters: Mapping[str, Any], picture: str = "tall.png") -> dict[str, Any]:
    """A question about one of the bundled pictures."""
    data = base64.b64encode((demo.PICTURES / picture).read_bytes()).decode()
    inputs = f"[INST] ![](data:image/png;base64,{data})\nWhat is this a picture of? [/INST]"
    return {"inputs": inputs, "parameters": parameters}


def posted(server: Server, route: str, body: Mapping[str, Any]) -> str:
    with server.client() as http:
        answer = http.post(route, json=body)
    assert answer.status_code == 200, answer.text
    text: str = answer.text
    return text


@contextmanager
def neighbours(server: Server) -> Iterator[None]:
    """Keep other requests running: each ends, and the next begins."""
    stop, began = threading.Event(), threading.Semaphore(0)

    def run(number: int) -> None:
        while not stop.is_set():
            posted(server, "/generate", asking({**SAMPLED, "seed": number, "max_new_tokens": 60}))
            began.release()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            began.acquire()
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("parameters", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_reproduced(server: Server, replay: Replay, parameters: Mapping[str, Any]) -> None:
    """Alone, of a stream, and among others."""
    body = asking(parameters)
    alone = replay(server, posted(server, "/generate_stream", body), body)
    assert alone.exit_code == 0, alone.output
    assert "reproduced: the same" in alone.output
    reply = posted(server, "/generate", body)
    with neighbours(server):
        assert replay(server, reply, body).exit_code == 0


def test_receipt_of_a_picture(server: Server) -> None:
    """The seed that was drawn, the picture's digest, tiles and steps; nothing of prompt or picture itself."""
    body = asking(SAMPLED)
    answer = json.loads(posted(server, "/generate", body))
    receipt = answer["details"]["receipt"]
    assert receipt["tokens"] == [token["id"] for token in answer["details"]["tokens"]]
    assert receipt["seed"] == str(answer["details"]["seed"])
    assert receipt["server"]["details"]["deterministic"] == "true"
    assert receipt["shapes"]["vision"] == [{"tiles": 5, "times": 1}]
    assert len(receipt["prompt"]["pictures"]) == 1
    prompt, steps = receipt["prompt"]["tokens"], len(receipt["tokens"]) - 1
    (decoded,) = receipt["shapes"]["decode"]
    assert decoded == {"rows": 1, "least_context": prompt + 1, "context": prompt + steps, "times": steps}
    assert "picture of" not in json.dumps(receipt)


def test_conversation(server: Server, replay: Replay) -> None:
    """OpenAI's form, streamed."""
    body = {"messages": [{"role": "user", "content": "A story"}], "max_tokens": 9, "stream": True, "receipt": True}
    assert replay(server, posted(server, "/v1/chat/completions", body), body).exit_code == 0


def test_another_picture(server: Server, replay: Replay) -> None:
    """It is noticed by the prompt's digest."""
    reply = posted(server, "/generate", asking(GREEDY))
    result = replay(server, reply, asking(GREEDY, "wide.png"))
    assert result.exit_code == 1
    assert "another prompt or picture" in result.output


def test_receipt_that_was_edited(server: Server, replay: Replay) -> None:
    """With another seed it is no receipt any more."""
    receipt = json.loads(posted(server, "/generate", asking(SAMPLED)))["details"]["receipt"]
    result = replay(server, {**receipt, "seed": "5"}, asking(SAMPLED))
    assert result.exit_code == 2
    assert "not as it was written" in result.output


def test_another_backend(server: Server, demo_server: Server, replay: Replay) -> None:
    """It is told, whether or not the tokens are the same."""
    body = asking(GREEDY)
    result = replay(demo_server, posted(server, "/generate", body), body)
    assert result.exit_code in (0, 1)
    assert "what differs beside tokens: backend" in result.output


def test_another_model(server: Server, replay: Replay, tmp_path: Path) -> None:
    """It is told, and so is the first token that differs, with the texts of both."""
    folder = tmp_path / "model"
    shutil.copytree(demo.MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rms_norm_eps"] = 1.0  # deaf: whatever is small is lost
    (folder / "config.json").write_text(json.dumps(config))
    body = {"inputs": "[INST] Hello! [/INST]", "parameters": GREEDY}
    with serving("--backend", "cpu", "--model-id", str(folder)) as other:
        result = replay(other, posted(server, "/generate", body), body)
    assert result.exit_code == 1
    differing, headline = result.output.splitlines()[-2:]
    assert "model digest" in differing
    assert re.fullmatch(r"not reproduced: token \d+ is \d+, '.*', in the receipt and \d+, '.*', now", headline)
