"""What is asked of a server. Every request has its own words and its own picture, so no cache of them helps."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image

from benchmarks.checkpoint.tokenizer import words

SIDE: Final = 336
"""Of a picture, pixels: llava-v1.6 cuts it into 3 tiles and makes 1176 tokens of it."""
SQUARES: Final = 24
"""Of a picture, along each side."""
QUESTION_WORDS: Final = 8


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests that come at once."""

    name: str
    requests: int
    picture: bool
    words: int

    def inputs(self, seed: int) -> list[str]:
        """Return the prompts of one round, as TGI's `inputs`; another seed gives others."""
        seeds = [1000 * seed + request for request in range(self.requests)]
        return [question(each, each) if self.picture else words(self.words, each) for each in seeds]


WORKLOADS: Final[Mapping[str, Workload]] = {
    workload.name: workload
    for workload in (
        Workload("W1", 1, True, QUESTION_WORDS),
        Workload("W2", 8, True, QUESTION_WORDS),
        Workload("W3x1", 1, False, 511),
        Workload("W3x8", 8, False, 511),
    )
}
"""A beginning-of-sequence token and 511 words are a prompt of 512 tokens."""


def question(picture_seed: int, words_seed: int) -> str:
    """Return a prompt of a picture and some words."""
    data = base64.b64encode(picture(picture_seed)).decode()
    return f"[INST] ![](data:image/png;base64,{data})\n{words(QUESTION_WORDS, words_seed)} [/INST]"


def picture(seed: int) -> bytes:
    """Return coloured squares, as PNG."""
    colours = Random(seed).randbytes(SQUARES * SQUARES * 3)
    squares = Image.frombytes("RGB", (SQUARES, SQUARES), colours)
    buffer = io.BytesIO()
    squares.resize((SIDE, SIDE), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
