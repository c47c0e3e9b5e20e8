"""Suggested questions: only kinds the model is good at, with the right answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from runtime.demo.questions import Question, reliable_questions
from runtime.demo.scene import Scene, Shape, scene_of_seed


def shape(kind: str, colour: str, digit: int | None = None, *, x: float = 50, size: str = "large") -> Shape:
    """A shape half way down the picture."""
    return Shape(kind, colour, size, 30, x, 50, 0, (0, 0, 0), digit)


def scene(*shapes: Shape) -> Scene:
    """A grey scene."""
    return Scene(100, 100, shapes, "grey", (185, 185, 188), 0, 0)


def test_all_kinds_with_their_answers() -> None:
    """Two shapes, one of them with a number."""
    asked = reliable_questions(scene(shape("circle", "orange", 4, x=20), shape("star", "red", x=80)))
    assert [(question.kind, question.text, question.answer) for question in asked] == [
        ("caption", "What is this a picture of?", "This is a picture of an orange circle and a red star."),
        ("count", "How many shapes are there?", "There are two shapes."),
        ("background", "What colour is the background?", "The background is grey."),
        ("shape", "What shape is orange?", "The circle is orange."),
        ("colour", "What colour is the star?", "The star is red."),
        ("exists", "Is there a star?", "Yes, there is a star."),
        ("where", "Where is the star?", "The star is on the right."),
        ("size", "Is the star large or small?", "The star is large."),
        ("number", "What number do you see?", "The number is 4."),
    ]


def test_a_colour_or_a_kind_that_occurs_twice_names_no_shape() -> None:
    """The question would have two answers."""
    asked = reliable_questions(scene(shape("circle", "red"), shape("star", "red"), shape("ring", "red")))
    assert "shape" not in [question.kind for question in asked]
    assert asked[0].answer == "This is a picture of a red circle, a red star and a red ring."
    asked = reliable_questions(scene(shape("circle", "red"), shape("circle", "blue")))
    assert [question.kind for question in asked] == ["caption", "count", "background", "shape"]


def test_nothing_is_asked_that_is_near_a_border() -> None:
    """A shape of medium size, between the middle and the right."""
    asked = reliable_questions(scene(shape("star", "red", x=61, size="medium")))
    assert [question.kind for question in asked] == ["caption", "count", "background", "shape", "colour", "exists"]


def test_one_shape_is_counted_in_the_singular_and_its_number_is_asked_for() -> None:
    """The wording the model was trained on."""
    asked = reliable_questions(scene(shape("heart", "pink", 1)))
    assert asked[1].answer == "There is one shape."
    assert asked[-1] == Question("number", "What number do you see?", "The number is 1.")


def test_no_number_is_asked_for_where_there_are_two() -> None:
    """Nobody could say which is meant."""
    asked = reliable_questions(scene(shape("heart", "pink", 1), shape("star", "red", 2)))
    assert "number" not in [question.kind for question in asked]


@given(st.integers(0, 2**31 - 1))
def test_a_picture_of_the_generator_can_always_be_listed(seed: int) -> None:
    """Its shapes stand in a grid, so the order is never disputed."""
    assert reliable_questions(scene_of_seed(seed))[0].kind == "caption"
