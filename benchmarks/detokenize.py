"""What turning ids into text costs: `python benchmarks/detokenize.py`.

Microseconds for a token of a reply: decoding each token with the one before it, taking what is known of most ids from a
table, and all that a row does with a token, in both ways. Once for the documentation's prose and once for ids drawn at
random. The ways take turns; medians.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from runtime import demo
from runtime.budgets import Demand
from runtime.detokenize import TextStream
from runtime.model import read_model
from runtime.prompt.tokenizer import Tokenizer
from runtime.row import Row
from runtime.runtime import SamplingParameters, StoppingParameters
from runtime.sampling.stopping import StopRule
from runtime.vocabulary import Vocabulary

MODEL: Final = read_model(demo.MODEL)
TOKENIZER: Final = Tokenizer.load(demo.MODEL, MODEL.image_token_id)
LENGTH: Final = 200
"""Tokens of a reply."""
REPLIES: Final = 300
PROMPT: Final = (1, 500)


class Forgetful:
    """The tokenizer without its table."""

    decode = staticmethod(TOKENIZER.decode)
    is_special = staticmethod(TOKENIZER.is_special)

    def addition(self, id: int) -> str | None:  # noqa: ARG002
        return None


def prose() -> list[list[int]]:
    """Cut the documentation into replies."""
    pages = sorted((Path(__file__).resolve().parents[1] / "docs").glob("*.md"))
    ids = TOKENIZER.encode("\n".join(page.read_text() for page in pages), add_special_tokens=False)
    return [ids[start : start + LENGTH] for start in range(0, len(ids), LENGTH)][:REPLIES]


def noise() -> list[list[int]]:
    """Draw replies of any ids, a third of which are bytes."""
    return [[random.randrange(MODEL.vocabulary) for _ in range(LENGTH)] for _ in range(REPLIES)]


def streamed(vocabulary: Vocabulary, reply: Sequence[int]) -> None:
    """Detokenize a reply."""
    stream = TextStream(vocabulary, PROMPT)
    for token in reply:
        stream.push(token)


def pushed(vocabulary: Vocabulary, reply: Sequence[int]) -> None:
    """Do all that a row does with its tokens."""
    row = Row(
        key=0,
        prompt=PROMPT,
        images=None,
        demand=Demand(len(PROMPT), LENGTH),
        sampling=SamplingParameters(),
        seed=0,
        stop_rule=StopRule.of(StoppingParameters(max_new_tokens=LENGTH), LENGTH, MODEL.eos_ids),
        vocabulary=vocabulary,
    )
    for token in reply:
        row.push(token, -1.0)


def main() -> None:
    """Print the table."""
    random.seed(0)
    for name, replies in (("prose", prose()), ("random ids", noise())):
        ways: dict[str, Callable[[Sequence[int]], None]] = {
            "decoded": partial(streamed, Forgetful()),
            "from the table": partial(streamed, TOKENIZER),
            "row, decoded": partial(pushed, Forgetful()),
            "row, from the table": partial(pushed, TOKENIZER),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for reply in replies:
            for way, work in ways.items():
                started = time.perf_counter()
                work(reply)
                times[way].append((time.perf_counter() - started) / len(reply) * 1e6)
        print(f"{name}, {len(replies)} replies")
        for way, each in times.items():
            print(f"    {way:<22}{median(each):6.2f} us a token")


if __name__ == "__main__":
    main()
