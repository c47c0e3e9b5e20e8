"""The bundled model on the oracle: questions about pictures, answered right over HTTP."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from click.testing import CliRunner
from runtime import __version__, demo
from runtime.cli import main
from support.processes import Server

PICTURES: list[dict[str, str]] = json.loads((demo.PICTURES / "pictures.json").read_text())
each_picture = pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture["file"])


def markdown(picture: dict[str, str]) -> str:
    """The picture as a prompt of TGI has it."""
    data = base64.b64encode((demo.PICTURES / picture["file"]).read_bytes()).decode()
    return f"![](data:image/png;base64,{data})"


@each_picture
@pytest.mark.proves("POST /generate_stream")
def test_request_of_the_guide(demo_server: Server, picture: dict[str, str]) -> None:
    """At most 16 events, numbered from 1; the last has the text that the tokens spell."""
    inputs = f"{markdown(picture)}What is this a picture of?\n\n"
    events = demo_server.events({"inputs": inputs, "parameters": {"max_new_tokens": 16, "seed": 42}})
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))
    assert 1 <= len(events) <= 16
    assert all(event["generated_text"] is None for event in events[:-1])
    spelt = "".join(event["token"]["text"] for event in events if not event["token"]["special"])
    assert events[-1]["generated_text"].strip() == spelt.strip()


@each_picture
@pytest.mark.proves("POST /generate")
def test_generate_answers_right(demo_server: Server, picture: dict[str, str]) -> None:
    """With the prompt in the form that the model was trained on."""
    body: dict[str, Any] = {
        "inputs": f"[INST] {markdown(picture)}\n{picture['question']} [/INST]",
        "parameters": {"max_new_tokens": 32, "details": True},
    }
    with demo_server.client() as http:
        answer = http.post("/generate", json=body).json()
    assert answer["generated_text"].strip() == picture["answer"]
    assert answer["details"]["finish_reason"] == "eos_token"


def test_cost_of_a_picture_is_told(demo_server: Server) -> None:
    """In details, in the last event and before the request, by the geometry that the model was trained with.

    173 x 326 pixels keep most of themselves on 2 x 2 tiles of 84, which with the base tile are 5. Of the 14 x 14
    features of the canvas 173 * 14 / 326 = 7.4 columns are covered, so three are left out on each side; a newline ends
    each of the 14 rows: 7 * 7 + 14 * (8 + 1) = 175 tokens. The backend takes any shape, so nothing is padding.
    """
    inputs = f"[INST] {markdown({'file': 'tall.png'})}\nWhat is this? [/INST]"
    body = {"inputs": inputs, "parameters": {"max_new_tokens": 2, "details": True}}
    with demo_server.client() as http:
        tokenized = http.post("/tokenize", json={"inputs": inputs})
        details = http.post("/generate", json=body).json()["details"]
    last = demo_server.events(body)[-1]["details"]
    length = last["input_length"]
    cost = {"images": [{"tiles": 5, "tokens": 175}], "cached_tokens": 0, "bucket": length, "padding": 0}
    assert details["prompt_cost"] == last["prompt_cost"] == cost
    assert len(tokenized.json()) == length
    assert {name: tokenized.headers[name] for name in ("x-image-tiles", "x-image-tokens", "x-prompt-bucket")} == {
        "x-image-tiles": "5",
        "x-image-tokens": "175",
        "x-prompt-bucket": str(length),
    }


@each_picture
def test_ask_answers_right(demo_server: Server, picture: dict[str, str]) -> None:
    """With the model's own chat template."""
    arguments = ["ask", "--url", demo_server.http, "--image", str(demo.PICTURES / picture["file"]), picture["question"]]
    result = CliRunner(env={"NO_PROXY": "*"}).invoke(main, arguments)
    assert (result.exit_code, result.output) == (0, picture["answer"] + "\n")


def test_sampled_reply_repeats_with_its_seed(demo_server: Server) -> None:
    """Whatever else runs beside it; another seed says something else."""
    with demo_server.client() as http:

        def texts(seeds: list[int]) -> list[str]:
            parameters = [{"max_new_tokens": 24, "temperature": 3.0, "seed": seed} for seed in seeds]
            bodies = [{"inputs": "[INST] Hello [/INST]", "parameters": each} for each in parameters]
            return [http.post("/generate", json=body).json()["generated_text"] for body in bodies]

        first, other, again = texts([7, 8, 7])
    assert first == again != other


def test_info(demo_server: Server) -> None:
    """The facts about the model are those of its folder."""
    with demo_server.client() as http:
        info = http.get("/info").json()
    assert info["model_id"] == "demo"
    assert info["model_architecture"] == "LlavaNextForConditionalGeneration"
    assert info["model_pipeline_tag"] == "image-text-to-text"
    assert info["model_device_type"] == "cpu"
    assert info["backend"] == "cpu_reference"
    assert (info["version"], info["backend_version"]) == (__version__, __version__)
    assert (info["max_input_tokens"], info["max_total_tokens"]) == (2047, 2048)
