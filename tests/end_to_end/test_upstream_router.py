"""A router of TGI drives our worker, through the worker's socket and through the gateway; and a person, by grpcurl."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from runtime import demo
from runtime.v3 import generate_pb2
from support.grpcurl import GRPCURL, grpcurl
from support.processes import Server
from support.router import Entry, Router

pytestmark = pytest.mark.anyio

PICTURES: list[dict[str, str]] = json.loads((demo.PICTURES / "pictures.json").read_text())
PROMPT_TOKENS = 400
"""What the router charges for a prompt: more than any here takes."""
GREETING = "[INST] Hello [/INST]"


def file_of(picture: dict[str, str]) -> bytes:
    return (demo.PICTURES / picture["file"]).read_bytes()


def asked(picture: dict[str, str], embedded: bool = True) -> list[str | bytes]:
    """A question about a picture, in the form the model was trained on; the picture as bytes or as markdown."""
    data = base64.b64encode(file_of(picture)).decode()
    question = f"\n{picture['question']} [/INST]"
    return (
        ["[INST] ", file_of(picture), question] if embedded else [f"[INST] ![](data:image/png;base64,{data}){question}"]
    )


def generated(server: Server, inputs: str, max_new_tokens: int, **parameters: Any) -> str:
    """What /generate answers, greedily."""
    with server.client() as http:
        body = {"inputs": inputs, "parameters": {"max_new_tokens": max_new_tokens, **parameters}}
        text: str = http.post("/generate", json=body).json()["generated_text"]
        return text


@pytest.fixture(params=["worker", "gateway"])
async def router(request: pytest.FixtureRequest, demo_server: Server) -> AsyncIterator[Router]:
    """A router that has booted; on the gateway it is told the address, for a router only dials sockets."""
    with demo_server.client() as http:
        facts = http.get("/info").json()
    router = Router(
        max_input_tokens=facts["max_input_tokens"],
        max_total_tokens=facts["max_total_tokens"],
        max_batch_prefill_tokens=4 * PROMPT_TOKENS,
        max_batch_size=4,
    )
    if request.param == "worker":
        (socket,) = re.findall(r"worker: .*gRPC on unix:(\S+)", "\n".join(demo_server.output))
        await router.boot(socket)
    else:
        await router.take(grpc.aio.insecure_channel(demo_server.grpc))
    yield router
    await router.close()


@pytest.mark.proves("generate.v3.TextGenerationService/Info", "generate.v3.TextGenerationService/ServiceDiscovery")
async def test_boot(router: Router) -> None:
    """What a router learns before it serves, and how it asks for life."""
    assert (router.info.dtype, router.info.device_type) == ("torch.bfloat16", "cpu")
    assert router.info.block_size > 0
    assert await router.is_alive()


async def test_queue_is_served_as_by_ourselves(router: Router, demo_server: Server) -> None:
    """Requests of different lengths come, end and hang up; each text is that of /generate."""
    entries: dict[str, Entry] = {}

    def submit(name: str, parts: list[str | bytes], count: int, **fields: Any) -> None:
        entries[name] = router.submit(*parts, max_new_tokens=count, input_length=PROMPT_TOKENS, **fields)

    def later(step: int) -> None:
        if step == 2:
            submit("third", asked(PICTURES[2]), 32)
            submit("gone", [GREETING], 40, hangs_up_after=3, stopping_parameters=endless(40))
            submit("second greeting", [GREETING], 24)

    submit("first", asked(PICTURES[0]), 32)
    submit("long", [GREETING], 30, stopping_parameters=endless(30))
    submit("one token", [GREETING], 1)
    await router.run(later)

    assert entries["first"].text.strip() == PICTURES[0]["answer"]
    for name, picture in (("first", PICTURES[0]), ("third", PICTURES[2])):
        (inputs,) = asked(picture, embedded=False)
        assert entries[name].text == generated(demo_server, str(inputs), 32)
    for name, count in (("one token", 1), ("second greeting", 24)):
        assert entries[name].text == generated(demo_server, GREETING, count)
    assert len(entries["long"].ids) == 30
    assert len(entries["gone"].ids) == 3
    assert entries["gone"].ids == entries["long"].ids[:3]
    assert ("decode", 2) in router.calls
    assert "filter" in {step for step, _ in router.calls}


def endless(count: int) -> generate_pb2.StoppingCriteriaParameters:
    """All of the tokens, past the end of sequence."""
    return generate_pb2.StoppingCriteriaParameters(max_new_tokens=count, ignore_eos_token=True)


async def test_pictures_in_inputs(router: Router, demo_server: Server) -> None:
    """Markdown counts when a client sends no chunks, as those of TGI before 2.3."""
    (inputs,) = asked(PICTURES[1], embedded=False)
    message = generate_pb2.Input()
    entry = router.submit(
        str(inputs), max_new_tokens=32, input_length=PROMPT_TOKENS, inputs=inputs, input_chunks=message
    )
    await router.run()
    assert entry.text == generated(demo_server, str(inputs), 32)
    assert entry.text.strip() == PICTURES[1]["answer"]


async def test_truncated(router: Router, demo_server: Server) -> None:
    """To the last tokens of the text."""
    text = "one two three " * 20 + GREETING
    entry = router.submit(text, max_new_tokens=8, input_length=PROMPT_TOKENS, truncate=6)
    await router.run()
    assert entry.text == generated(demo_server, text, 8, truncate=6)


async def test_grammar(router: Router) -> None:
    """The reply has the form that the router asks for."""
    parameters = generate_pb2.NextTokenChooserParameters(
        grammar="[0-9]{3}", grammar_type=generate_pb2.GRAMMAR_TYPE_REGEX, seed=1
    )
    entry = router.submit(GREETING, max_new_tokens=8, input_length=PROMPT_TOKENS, parameters=parameters)
    await router.run()
    assert re.fullmatch("[0-9]{3}", entry.text.strip())


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
def test_grpcurl(demo_server: Server) -> None:
    """The lines of the README: prefill under an id of one's own, then decode until the batch is gone."""
    service = "generate.v3.TextGenerationService"
    assert service in grpcurl(demo_server, "list").stdout.split()
    assert "rpc FilterBatch " in grpcurl(demo_server, "describe", service).stdout
    assert json.loads(grpcurl(demo_server, f"{service}/ServiceDiscovery").stdout) == {"urls": [demo_server.grpc]}
    request = {"id": 1, "inputs": GREETING, "stopping_parameters": {"max_new_tokens": 4}, "add_special_tokens": True}
    step = json.loads(grpcurl(demo_server, f"{service}/Prefill", batch={"id": 7, "requests": [request]}).stdout)
    assert step["batch"]["id"] == "7"
    steps = 1
    while "batch" in step:
        step = json.loads(grpcurl(demo_server, f"{service}/Decode", batches=[{"id": 7}]).stdout)
        steps += 1
    assert steps <= 4
    assert step["generations"][0]["generated_text"]["text"] == generated(demo_server, GREETING, 4)
    unknown = grpcurl(demo_server, f"{service}/Decode", batches=[{"id": 7}])
    assert "Code: NotFound" in unknown.stderr
