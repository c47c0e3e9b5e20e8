"""Step 6: exact-answer accuracy by kind of question through a running server.

Asks `POST {url}/generate` the questions that evaluate.py scores, in each form of prompt that the model was trained on.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import click
import httpx
from evaluation_set import SOURCES, Example, picture_examples, text_examples
from PIL import Image
from runtime.demo.questions import Question
from tally import Tally, markdown_table

MAX_NEW_TOKENS = 128
"""More than the longest answer."""

TIMEOUT_S = 120.0

CHAT = "[INST] {picture}\n{question} [/INST]"
FOLLOW_UP = "[INST] {picture}\n{first} [/INST] {answer}</s>[INST] {question} [/INST]"
"""A second turn, after another question and its right answer."""
RAW = "{picture}{question}\n\n"
"""No template: picture, question, empty line."""


class MeasurementFailed(Exception):
    """The server gave no answer; a table with holes would be no measurement."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question as it is sent."""

    question: Question
    prompt: str


def picture_requests(examples: Iterable[Example], form: str = CHAT) -> Iterator[Request]:
    """Yield every question about every picture."""
    for example in examples:
        picture = f"![]({_data_address(example.image)})"
        for place, question in enumerate(example.questions):
            first = example.questions[place - 1]
            prompt = form.format(picture=picture, question=question.text, first=first.text, answer=first.answer)
            yield Request(question, prompt)


def text_requests(questions: Iterable[Question]) -> Iterator[Request]:
    """Yield turns without a picture."""
    for question in questions:
        yield Request(question, f"[INST] {question.text} [/INST]")


async def measure(client: httpx.AsyncClient, requests: Iterable[Request], in_flight: int) -> Tally:
    """Return the tally of the server's answers, with at most `in_flight` requests under way.

    `client` knows the server's address. Raises MeasurementFailed at the first request that is not answered.
    """
    tally = Tally()
    remaining = iter(requests)

    async def ask_until_done() -> None:
        for request in remaining:
            answer = await _answer(client, request.prompt)
            tally.add(request.question.kind, right=answer == request.question.answer)

    workers = [asyncio.create_task(ask_until_done()) for _ in range(in_flight)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return tally


async def _answer(client: httpx.AsyncClient, prompt: str) -> str:
    body = {"inputs": prompt, "parameters": {"max_new_tokens": MAX_NEW_TOKENS}}
    try:
        reply = await client.post("/generate", json=body)
    except httpx.HTTPError as error:
        raise MeasurementFailed(f"no answer from the server: {type(error).__name__}") from error
    if reply.status_code != 200:
        raise MeasurementFailed(f"the server answered {reply.status_code}: {reply.text[:200]}")
    # The tokenizer keeps the space between [/INST] and the answer.
    return str(reply.json()["generated_text"]).strip()


def _data_address(image: Image.Image) -> str:
    png = io.BytesIO()
    image.save(png, format="PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


async def tables(client: httpx.AsyncClient, pictures: int, seed: int, in_flight: int) -> str:
    """Return the tables of all sets in Markdown; other forms than the chat are asked about half as many pictures."""
    pairs, forms = {}, {}
    for source in SOURCES:
        for held_out in (False, True):
            examples = picture_examples(source, pictures, seed, held_out=held_out)
            name = f"{source}, {'held-out' if held_out else 'known'} pairs"
            pairs[name] = await measure(client, picture_requests(examples), in_flight)
        for name, form in (("follow-up", FOLLOW_UP), ("raw", RAW)):
            examples = picture_examples(source, max(1, pictures // 2), seed)
            forms[f"{source}, {name}"] = await measure(client, picture_requests(examples, form), in_flight)
    text = {"text only": await measure(client, text_requests(text_examples(pictures, seed)), in_flight)}
    return "\n\n".join(markdown_table(columns) for columns in (pairs, forms, text))


@click.command()
@click.option("--url", default="http://127.0.0.1:3000", show_default=True)
@click.option("--pictures", default=240, show_default=True, type=click.IntRange(1), help="Of each set.")
@click.option("--seed", default=1, show_default=True, help="Another one for every decision that figures lead to.")
@click.option("--in-flight", default=4, show_default=True, type=click.IntRange(1, 64), help="Requests at a time.")
def main(url: str, pictures: int, seed: int, in_flight: int) -> None:
    """Print tables of the accuracy of the demo model behind the server at URL."""

    async def run() -> str:
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
            return await tables(client, pictures, seed, in_flight)

    try:
        click.echo(asyncio.run(run()))
    except MeasurementFailed as failure:
        raise click.ClickException(str(failure)) from failure


if __name__ == "__main__":
    main()
