"""The bundled model on what `auto` comes to without an accelerator: the backend `cpu`, and what it saves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.pictures import PICTURES, Picture
from support.processes import Server, serving
from support.scrape import read_scrape

GIVEN = ("--no-prefix-reuse", "--dtype", "float32", "--threads", "1")
VARIABLES = {"IMAGE_CACHE_BYTES": "0"}


@pytest.fixture(scope="module")
def plain_server() -> Iterator[Server]:
    """Nothing is chosen but the model."""
    with serving("--model-id", "demo") as server:
        yield server


@pytest.fixture(scope="module")
def bare_server() -> Iterator[Server]:
    """Everything off that saves work, and every option of the backend given."""
    with serving("--backend", "cpu", "--model-id", "demo", *GIVEN, variables=VARIABLES) as server:
        yield server


def answer(server: Server, picture: Picture, before: str = "") -> str:
    """What the model says to the question about a picture, with some text before it."""
    inputs = picture.prompt.replace("[INST] ", f"[INST] {before}")
    with server.client() as http:
        body = {"inputs": inputs, "parameters": {"max_new_tokens": 32}}
        return str(http.post("/generate", json=body).json()["generated_text"]).strip()


def counts(server: Server) -> tuple[float, dict[str, float]]:
    """Tokens reused, and what the backend counts."""
    with server.client() as http:
        scrape = read_scrape(http.get("/metrics").content)
    return scrape["runtime_prefix_reused_tokens_total"].values[""], scrape["runtime_backend_stat"].values


@pytest.mark.proves("--backend")
def test_auto_is_cpu(plain_server: Server) -> None:
    """Told by /info and in the log."""
    with plain_server.client() as http:
        assert http.get("/info").json()["backend"] == "cpu"
    assert any(line.endswith("loading demo on backend cpu") for line in plain_server.output)


@pytest.mark.parametrize("server", ["plain_server", "bare_server"])
@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.file)
def test_answers_are_right(server: str, picture: Picture, request: pytest.FixtureRequest) -> None:
    """In the type that suits the machine, and in fp32."""
    assert answer(request.getfixturevalue(server), picture) == picture.answer


def test_second_question_about_a_picture(plain_server: Server) -> None:
    """Behind the same text the picture is not computed; behind another its features are known."""
    picture = PICTURES[0]
    first = answer(plain_server, picture, "Look. ")
    reused, told = counts(plain_server)
    assert answer(plain_server, picture, "Look. ") == first
    reused_again, told_again = counts(plain_server)
    assert reused_again > reused + 100
    assert told_again["encoded_tiles"] == told["encoded_tiles"]
    assert told_again["image_cache_hits"] == told["image_cache_hits"]
    answer(plain_server, picture, "Look at this, please. ")
    _, told_at_last = counts(plain_server)
    assert told_at_last["encoded_tiles"] == told["encoded_tiles"]
    assert told_at_last["image_cache_hits"] == told["image_cache_hits"] + 1


def test_all_that_can_be_switched_off(bare_server: Server) -> None:
    """The same question costs the same again; flags and variables reached the worker."""
    picture = PICTURES[0]
    answer(bare_server, picture)
    _, told = counts(bare_server)
    answer(bare_server, picture)
    reused, told_again = counts(bare_server)
    assert reused == 0
    assert told_again["encoded_tiles"] > told["encoded_tiles"]
    assert (told_again["image_cache_hits"], told_again["image_cache_bytes"]) == (0, 0)
    with bare_server.client() as http:
        details = http.get("/info").json()["details"]
    assert (details["dtype"], details["threads"], details["image_cache_bytes"]) == ("float32", "1", "0")
