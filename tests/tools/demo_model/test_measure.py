"""Measuring through HTTP, against a small application in place of the server."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import Callable

import httpx
import measure
import pytest
from evaluation_set import picture_examples, text_examples
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from measure import MeasurementFailed, picture_requests, text_requests
from PIL import Image
from runtime.demo.questions import Question
from tally import Tally, markdown_table

PICTURE = r"!\[\]\(data:image/png;base64,(?P<png>[^)]+)\)"
PROMPT = re.compile(rf"\[INST\] (?:{PICTURE}\n)?(?:.+ \[/INST\] .+</s>\[INST\] )?(?P<question>.+) \[/INST\]")
RAW = re.compile(rf"{PICTURE}(?P<question>.+)\n\n")


class FakeServer:
    """Answers as told, and remembers how many requests were under way at once."""

    def __init__(self, answer: Callable[[str], str], status: int = 200) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.parameters: list[dict[str, int]] = []
        self.most_at_once = 0
        self._now = 0
        self.app = FastAPI()

        @self.app.post("/generate")
        async def generate(body: dict) -> JSONResponse:  # type: ignore[type-arg]
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            for _ in range(5):
                await asyncio.sleep(0)
            self._now -= 1
            prompt = PROMPT.fullmatch(body["inputs"]) or RAW.fullmatch(body["inputs"])
            assert prompt
            if prompt["png"]:
                with Image.open(io.BytesIO(base64.b64decode(prompt["png"]))) as image:
                    self.sizes.append(image.size)
            self.parameters.append(body["parameters"])
            if status != 200:
                return JSONResponse({"error": "no room", "error_type": "overloaded"}, status)
            return JSONResponse({"generated_text": answer(prompt["question"])})

    def run(self, work: Callable[[httpx.AsyncClient], object]) -> object:
        """Run a coroutine of a client against this server."""

        async def go() -> object:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await work(client)  # type: ignore[misc]

        return asyncio.run(go())


def test_right_answers_are_counted_by_kind_and_pictures_arrive_whole() -> None:
    """The server knows the count of every picture and nothing else; its answers begin with a space."""
    examples = list(picture_examples("drawn", 6, 1))
    answers = {q.text: q.answer for example in examples for q in example.questions if q.kind == "background"}
    server = FakeServer(lambda question: " " + answers.get(question, "I do not know."))
    tally = server.run(lambda client: measure.measure(client, picture_requests(examples), 3))
    assert isinstance(tally, Tally)
    right = sum(answers[q.text] == q.answer for e in examples for q in e.questions if q.kind == "background")
    assert tally.cell("background") == f"{right / 6:.3f} ({right} of 6)"
    assert tally.cell("count") == "0.000 (0 of 6)"
    expected = [e.image.size for e in examples for _ in e.questions]
    assert sorted(server.sizes) == sorted(expected)
    assert server.parameters[0] == {"max_new_tokens": 128}
    assert 1 < server.most_at_once <= 3


def test_text_is_asked_without_a_picture() -> None:
    """All right, so the share is one."""
    turns = list(text_examples(20, 1))
    answers = {turn.text: turn.answer for turn in turns}
    server = FakeServer(lambda question: answers[question])
    tally = server.run(lambda client: measure.measure(client, text_requests(turns), 4))
    assert isinstance(tally, Tally)
    assert tally.cell() == "1.000 (20 of 20)"
    assert server.sizes == []


def test_an_answer_must_be_whole() -> None:
    """A right beginning is wrong."""
    turn = Question("chat", "Hello.", "Hello! I am a tiny vision model.")
    server = FakeServer(lambda _: " Hello!")
    tally = server.run(lambda client: measure.measure(client, text_requests([turn]), 1))
    assert isinstance(tally, Tally)
    assert tally.cell("chat") == "0.000 (0 of 1)"


def test_a_server_that_refuses_ends_the_measurement() -> None:
    """Status and text are told; nothing is counted as wrong."""
    server = FakeServer(lambda _: "", status=429)
    with pytest.raises(MeasurementFailed, match=r"429: .*no room"):
        server.run(lambda client: measure.measure(client, text_requests(text_examples(9, 1)), 2))


def test_a_server_that_is_not_there_is_named_as_such() -> None:
    """A connection error is no traceback."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async def go() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://test") as client:
            await measure.measure(client, text_requests(text_examples(3, 1)), 2)

    with pytest.raises(MeasurementFailed, match="no answer from the server: ConnectError"):
        asyncio.run(go())


@pytest.mark.parametrize("form", [measure.FOLLOW_UP, measure.RAW])
def test_other_forms_ask_the_same_questions(form: str) -> None:
    """After another turn, or without a template; the server finds picture and question in both."""
    examples = list(picture_examples("svg", 3, 1))
    answers = {q.text: q.answer for example in examples for q in example.questions if q.kind == "relation"}
    server = FakeServer(lambda question: answers.get(question, "I do not know."))
    tally = server.run(lambda client: measure.measure(client, picture_requests(examples, form), 3))
    assert isinstance(tally, Tally)
    assert len(server.sizes) == sum(len(example.questions) for example in examples)
    assert tally.share("relation") == 1
    assert tally.share("caption") == 0


def test_tables_hold_both_sources_all_forms_and_text_apart() -> None:
    """Every kind is a row."""
    server = FakeServer(lambda _: "nothing")
    text = server.run(lambda client: measure.tables(client, pictures=2, seed=1, in_flight=2))
    lines = str(text).splitlines()
    header = "| kind | drawn, known pairs | drawn, held-out pairs | svg, known pairs | svg, held-out pairs |"
    assert lines[0] == header
    assert lines[2].startswith("| **all** | 0.000 (0 of ")
    assert "| kind | drawn, follow-up | drawn, raw | svg, follow-up | svg, raw |" in lines
    assert "| kind | text only |" in lines


def test_a_kind_that_a_set_lacks_is_a_dash() -> None:
    """Columns may differ in their kinds."""
    one, other = Tally(), Tally()
    one.add("count", right=True)
    one.add("count", right=False)
    other.add("number", right=True)
    assert markdown_table({"a": one, "b": other}).splitlines() == [
        "| kind | a | b |",
        "| --- | --- | --- |",
        "| **all** | 0.500 (1 of 2) | 1.000 (1 of 1) |",
        "| count | 0.500 (1 of 2) | - |",
        "| number | - | 1.000 (1 of 1) |",
    ]
    assert one.line() == "all 0.500 count 0.500"
