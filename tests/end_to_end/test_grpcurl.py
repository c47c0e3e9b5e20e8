"""A person with grpcurl walks a request by hand, one hook of the backend at a time."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from runtime import demo
from support.grpcurl import GRPCURL, grpcurl
from support.processes import Server

pytestmark = pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")

PICTURE = json.loads((demo.PICTURES / "pictures.json").read_text())[0]
"""A caption, the longest answer there is."""


def call(server: Server, method: str, **message: Any) -> dict[str, Any]:
    """The only answer of a method of the Backend service."""
    done = grpcurl(server, f"runtime.v1.Backend/{method}", **message)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def refusal(server: Server, method: str, **message: Any) -> tuple[str, str]:
    """Status code and text of a call that must fail."""
    done = grpcurl(server, f"runtime.v1.Backend/{method}", **message)
    assert done.returncode != 0
    code, text = re.findall(r"^  (?:Code|Message): (.*)$", done.stderr, re.MULTILINE)
    return code, text


def question(id: int, **stopping: Any) -> dict[str, Any]:
    """A picture and a question about it, as a conversation."""
    data = base64.b64encode((demo.PICTURES / PICTURE["file"]).read_bytes()).decode()
    chunks = [{"image": {"data": data}}, {"text": PICTURE["question"]}]
    return {"id": id, "messages": [{"role": "user", "chunks": chunks}], "stopping_parameters": stopping}


def test_reflection(demo_server: Server) -> None:
    """Services can be listed and described without their files."""
    listed = grpcurl(demo_server, "list").stdout.split()
    assert {"runtime.v1.Backend", "runtime.v1.Generation", "grpc.health.v1.Health"} <= set(listed)
    backend = grpcurl(demo_server, "describe", "runtime.v1.Backend").stdout
    for method in ("Warmup", "Prefill", "Concatenate", "Decode", "Filter", "Release", "Info", "Health"):
        assert f"rpc {method} " in backend
    generation = grpcurl(demo_server, "describe", "runtime.v1.Generation").stdout
    for method in ("Generate", "Tokenize", "Info"):
        assert f"rpc {method} " in generation


def test_health_and_info(demo_server: Server) -> None:
    """What a person asks first."""
    assert call(demo_server, "Health")["readiness"] == "READINESS_READY"
    info = call(demo_server, "Info")
    assert (info["model_id"], info["backend"], info["vision"]) == ("demo", "cpu_reference", True)
    health = grpcurl(demo_server, "grpc.health.v1.Health/Check")
    assert json.loads(health.stdout) == {"status": "SERVING"}


def test_walk_to_the_right_answer(demo_server: Server) -> None:
    """The texts of prefill and of each decode, joined, are the answer; at the end the batch is gone."""
    step = call(demo_server, "Prefill", batch={"requests": [question(5, max_new_tokens=32)]})
    batch = step["batch"]["id"]
    texts = step["generations"][0]["tokens"]["texts"]
    joined = call(demo_server, "Concatenate", batches=[{"id": batch}])
    assert joined["batch"]["request_ids"] == ["5"]
    while "generated_text" not in step["generations"][0]:
        assert len(texts) < 32
        step = call(demo_server, "Decode", batches=[{"id": batch}])
        (generation,) = step["generations"]
        assert generation["request_id"] == "5"
        texts += [
            text
            for text, special in zip(generation["tokens"]["texts"], generation["tokens"]["is_special"], strict=True)
            if not special
        ]
    assert "".join(texts).strip() == PICTURE["answer"]
    assert step["generations"][0]["generated_text"]["text"].strip() == PICTURE["answer"]
    assert "batch" not in step
    assert refusal(demo_server, "Decode", batches=[{"id": batch}])[0] == "NotFound"


def test_release_gives_the_rows_back(demo_server: Server) -> None:
    """After it the batch is unknown; another cannot be hurt by that."""
    requests = [question(1, max_new_tokens=8), question(2, max_new_tokens=8)]
    batch = call(demo_server, "Prefill", batch={"requests": requests})["batch"]
    assert (batch["size"], batch["request_ids"]) == (2, ["1", "2"])
    call(demo_server, "Release", id=batch["id"])
    code, text = refusal(demo_server, "Decode", batches=[{"id": batch["id"]}])
    assert code == "NotFound"
    assert batch["id"] in text


def test_bad_field_is_named(demo_server: Server) -> None:
    """And nothing is leased."""
    bad = {**question(1), "parameters": {"temperature": -1}}
    code, text = refusal(demo_server, "Prefill", batch={"requests": [bad]})
    assert code == "InvalidArgument"
    assert "`temperature` must be above 0" in text


def test_whole_request(demo_server: Server) -> None:
    """The Generation service streams the same answer."""
    done = grpcurl(demo_server, "runtime.v1.Generation/Generate", request=question(9, max_new_tokens=32))
    assert done.returncode == 0, done.stderr
    deltas = [json.loads(part)["delta"] for part in re.split(r"(?<=^})\n", done.stdout, flags=re.MULTILINE) if part]
    assert {delta["request_id"] for delta in deltas} == {"9"}
    assert deltas[-1]["generated_text"]["text"].strip() == PICTURE["answer"]
    assert deltas[-1]["generated_text"]["finish_reason"] == "FINISH_REASON_EOS_TOKEN"
    assert sum(len(delta["tokens"]["ids"]) for delta in deltas) == deltas[-1]["generated_text"]["generated_tokens"]
