"""Questions have one right answer and name no held-out pair."""

from __future__ import annotations

import re
from random import Random

import pytest
from curriculum import STAGES, row_of, stage_of
from encoding import Encoder
from free_scene import sample_free_scene
from hypothesis import given
from hypothesis import strategies as st
from questions import KINDS, questions_about
from runtime.demo import MODEL
from runtime.demo.questions import Question
from runtime.demo.scene import Scene, Shape
from runtime.demo.vocabulary import HELD_OUT
from small_talk import small_talk
from tokenizers import Tokenizer
from transformers import AutoTokenizer

seeds = st.integers(0, 2**31 - 1)


def answers(scene: Scene, kind: str) -> dict[str, str]:
    """All questions of a kind that are ever asked about a scene, with their answers."""
    asked: dict[str, str] = {}
    for seed in range(200):
        for question in questions_about(scene, Random(seed)):
            if question.kind == kind:
                assert asked.setdefault(question.text, question.answer) == question.answer
    return asked


def two() -> Scene:
    """A large red circle at the top left and a small blue star with a 4 at the bottom, right of the middle line."""
    circle = Shape("circle", "red", "large", 40, 25, 30, 0, (255, 0, 0))
    star = Shape("star", "blue", "small", 15, 50, 80, 0, (0, 0, 255), digit=4, digit_height=9)
    return Scene(100, 100, (circle, star), "beige", (245, 245, 220), 0, 0)


@pytest.mark.parametrize(
    ("kind", "text", "answer"),
    [
        ("caption", "What do you see?", "This is a picture of a red circle and a blue star."),
        (
            "describe",
            "Describe this picture.",
            "There are two shapes on a beige background. "
            "A red circle is at the top left. A blue star is at the bottom.",
        ),
        ("count", "Count the shapes.", "There are two shapes."),
        ("background", "What color is the background?", "The background is beige."),
        ("colour", "What colour is the star?", "The star is blue."),
        ("shape", "Which shape is red?", "The circle is red."),
        ("exists", "Is there a star?", "Yes, there is a star."),
        ("exists", "Is there a ring?", "No, there is no ring."),
        ("exists_pair", "Is there a blue circle?", "No, there is no blue circle."),
        ("where", "Where is the circle?", "The circle is at the top left."),
        ("size", "Is the star large or small?", "The star is small."),
        ("relation", "Is the circle left of the star?", "Yes, the circle is left of the star."),
        ("relation", "Is the circle below the star?", "No, the circle is above the star."),
        ("number", "What number do you see?", "The number is 4."),
        ("format", "Is the picture wide, tall or square?", "The picture is square."),
    ],
)
def test_answers_of_every_kind(kind: str, text: str, answer: str) -> None:
    """About one scene, by hand; blue circle would be asked, blue square is held out."""
    assert answers(two(), kind)[text] == answer


def test_nothing_is_asked_that_has_no_sure_answer() -> None:
    """Two circles of one height, apart by little, one of medium size: no kind and no colour names one of them."""
    one = Shape("circle", "red", "medium", 22, 41, 50, 0, (255, 0, 0))
    other = Shape("circle", "red", "small", 12, 70, 64, 0, (255, 0, 0))
    scene = Scene(100, 100, (one, other), "white", (255, 255, 255), 0, 0)
    asked = {question.kind for seed in range(50) for question in questions_about(scene, Random(seed))}
    assert asked == {"count", "background", "exists", "exists_pair", "number", "format"}


@given(seeds)
def test_questions_come_in_the_order_of_their_kinds_and_name_no_held_out_pair(seed: int) -> None:
    """Neither asked for nor answered."""
    rng = Random(seed)
    asked = questions_about(sample_free_scene(rng), rng)
    kinds = [question.kind for question in asked]
    assert kinds == sorted(set(kinds), key=KINDS.index)
    names = [f"{colour} {kind}" for colour, kind in HELD_OUT]
    assert not any(name in question.text + question.answer for question in asked for name in names)


def test_small_talk_names_no_held_out_pair() -> None:
    """Not even in its story."""
    rng = Random(3)
    turns = [small_talk(rng) for _ in range(500)]
    assert not any(f"{colour} {kind}" in turn.answer for turn in turns for colour, kind in HELD_OUT)


def test_every_word_that_is_said_is_one_token() -> None:
    """The tokenizer was trained on the sentences of an earlier recipe and is kept; only two formats are newer."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    rng = Random(6)
    said: list[Question] = []
    for _ in range(300):
        said += questions_about(sample_free_scene(rng), rng)
    words = set(re.findall(r" ([a-zA-Z]+)", "".join(f" {question.answer}" for question in said)))
    split = {word for word in words if len(tokenizer.encode(f"is {word}").ids) != 3}
    assert split == {"wide", "tall"}


@pytest.mark.parametrize(
    ("width", "height", "word"),
    [
        (300, 100, "wide"),
        (133, 100, "wide"),
        (120, 100, None),
        (100, 110, "square"),
        (80, 100, None),
        (75, 100, "tall"),
    ],
)
def test_a_format_is_asked_for_only_where_it_is_clear(width: int, height: int, word: str | None) -> None:
    """By width and height alone."""
    shape = Shape("circle", "red", "large", 40, 50, 50, 0, (255, 0, 0))
    scene = Scene(width, height, (shape,), "white", (255, 255, 255), 0, 0)
    assert set(answers(scene, "format").values()) == ({f"The picture is {word}."} if word else set())


def test_what_takes_longest_is_asked_about_every_picture_of_the_full_mix() -> None:
    """Captions, descriptions and numbers, wherever a scene allows them, and several pairs."""
    kinds = row_of(two(), Random(5), Encoder(AutoTokenizer.from_pretrained(MODEL)), frozenset()).kinds
    assert {"caption", "describe", "number"} <= set(kinds)
    assert kinds.count("exists_pair") == 3


def test_every_kind_that_names_a_shape_has_a_stage_before_the_mix() -> None:
    """And the run ends with the mix."""
    focus = frozenset().union(*(stage.focus for stage in STAGES))
    assert focus >= {"colour", "exists", "exists_pair", "where", "size", "relation"}
    assert (stage_of(0.0), stage_of(0.999)) == (STAGES[0], STAGES[-1])
    assert not STAGES[-1].focus


def test_a_colour_and_a_shape_that_are_there_make_no_pair() -> None:
    """A red star is asked for beside a red circle and a blue star: to say no, the two must be looked up together."""
    scene = two()
    texts = [
        question.text
        for seed in range(400)
        for question in questions_about(scene, Random(seed))
        if question.kind == "exists_pair" and question.answer.startswith("No")
    ]
    crossed = sum(text in ("Is there a red star?", "Is there a blue circle?") for text in texts)
    assert 0.45 < crossed / len(texts) < 0.75
