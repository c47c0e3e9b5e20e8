"""Training questions and small talk are, draw by draw, those the delivered weights were trained and measured on."""

from __future__ import annotations

import hashlib
import json
from random import Random

from questions import held_out_shapes, questions_about
from runtime.demo.questions import Question
from runtime.demo.scene import sample_scene
from runtime.demo.vocabulary import HELD_OUT
from small_talk import small_talk


def digest(questions: list[Question]) -> str:
    """A digest of every letter."""
    rows = [[question.kind, question.text, question.answer] for question in questions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def test_questions_are_those_of_training() -> None:
    """Digest from the program that trained the model: 100 known and 100 held-out pictures."""
    asked: list[Question] = []
    rng = Random(1)
    for _ in range(100):
        asked += questions_about(sample_scene(rng), rng)
    rng = Random(2)
    for _ in range(100):
        scene = sample_scene(rng, held_out=True)
        asked += questions_about(scene, rng, held_out=True, focus=held_out_shapes(scene))
    assert len(asked) == 2518
    assert digest(asked) == "aebe4df336457b04"


def test_small_talk_is_that_of_training() -> None:
    """Digest from the program that trained the model."""
    rng = Random(3)
    assert digest([small_talk(rng) for _ in range(300)]) == "9d3396ebe85a32d2"


def test_training_questions_name_no_held_out_pair() -> None:
    """Neither asked for nor answered."""
    names = [f"{colour} {kind}" for colour, kind in HELD_OUT]
    rng = Random(5)
    for _ in range(300):
        for question in questions_about(sample_scene(rng), rng):
            assert not any(name in question.text + question.answer for name in names)
