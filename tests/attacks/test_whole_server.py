"""Attacks on a whole server, while others read their replies."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.attack_addresses import SPELLINGS
from support.attack_hosts import QUICK, hosting
from support.attack_pictures import REFUSED
from support.pictures import PICTURES
from support.processes import Server, serving

GOOD = PICTURES[0]


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def lying_png() -> bytes:
    """A header that says 65,535 pixels a side."""
    whole = base64.b64decode(GOOD.data_uri.partition(",")[2])
    return whole[:16] + b"\0\0\xff\xff" * 2 + whole[24:]


ATTACKS = {
    "http://127.0.0.1:8080/": "not on the public internet",
    "http://169.254.169.254/latest/meta-data/": "not on the public internet",
    "http://[::ffff:127.0.0.1]/": "not on the public internet",
    "http://localhost/": "not on the public internet",
    "http://0x7f.1/": "unusual spelling",
    "http://user@example.com/": "cannot be read",
    "file:///etc/passwd": "not supported",
    data_uri(b"<svg/>"): "not a PNG",
    data_uri(lying_png()): "pixels",
    data_uri(b"\x89PNG"): "not a PNG",
}


@pytest.fixture(scope="module")
def hosts() -> Iterator[int]:
    """The port of the hosts that misbehave."""
    with hosting() as port:
        yield port


@pytest.fixture(scope="module")
def server(hosts: int, arithmetic_plugin: Path) -> Iterator[Server]:
    """With what an operator gets who says nothing about addresses, but that it fetches from these hosts."""
    arguments = ("--backend", "arithmetic", "--model-id", "demo", "--image-url-allow", f"127.0.0.1:{hosts}")
    with serving(*arguments, folders=[arithmetic_plugin]) as server:
        yield server


def test_attacks_beside_healthy_streams(server: Server) -> None:
    """Every attack gets a 422 that names the picture and tells no more; every stream is whole."""
    body = {"inputs": f"![]({GOOD.data_uri})" + GOOD.question, "parameters": {"max_new_tokens": 40}}
    calm = [event["token"]["id"] for event in server.events(body)]
    with ThreadPoolExecutor(8) as pool, server.client() as http:
        streams = [pool.submit(server.events, body) for _ in range(4)]
        asked = {
            attack: pool.submit(http.post, "/generate", json={"inputs": f"![]({GOOD.data_uri})![]({attack})"})
            for attack in ATTACKS
        }
        for attack, answer in asked.items():
            told = answer.result().json()["error"]
            assert answer.result().status_code == 422, told
            assert ATTACKS[attack] in told
            assert "picture 1: " in told
            assert "127.0" not in told
            assert "passwd" not in told
        for stream in streams:
            assert [event["token"]["id"] for event in stream.result()] == calm


def test_every_attack_beside_healthy_streams(server: Server, hosts: int) -> None:
    """All that the other files of this folder have: 422 for each but those that wait for a time, and whole streams."""
    by_value = [data_uri(made()) for made, told in REFUSED.values() if told != "too thin"]  # for other models they are
    attacks = [*SPELLINGS, *by_value, *(f"http://127.0.0.1:{hosts}/{path}" for path in QUICK)]
    body = {"inputs": f"![]({GOOD.data_uri})" + GOOD.question, "parameters": {"max_new_tokens": 200}}
    calm = server.events(body)[-1]["generated_text"]
    with ThreadPoolExecutor(8) as pool, server.client() as http:
        asked = [pool.submit(http.post, "/generate", json={"inputs": f"![]({attack})"}) for attack in attacks]
        texts = [server.events(body)[-1]["generated_text"] for _ in range(4)]
        refused = {attack: answer.result().status_code for attack, answer in zip(attacks, asked, strict=True)}
    assert {attack[:200]: status for attack, status in refused.items() if status != 422} == {}
    assert texts == [calm] * 4


def test_the_openai_route_tells_the_same(server: Server) -> None:
    """With OpenAI's code for addresses."""
    content = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]
    with server.client() as http:
        answer = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 422
    assert "picture 0: its host is not on the public internet" in answer.text
    assert answer.json()["error"]["code"] == "invalid_image_url"
