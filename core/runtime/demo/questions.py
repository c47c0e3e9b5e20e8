"""Questions about a scene that the demo model is good at, with their right answers.

The wording is exact: the model was trained on these sentences, and an answer is right when it is the whole sentence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from runtime.demo.scene import Scene, Shape
from runtime.demo.truth import order_is_clear, place_is_clear, place_of
from runtime.demo.vocabulary import NUMBERS, listing, with_article


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the one answer that counts as right."""

    kind: str
    text: str
    answer: str


def reliable_questions(scene: Scene) -> tuple[Question, ...]:
    """Return one question of most kinds that the model is good at, as far as the scene allows them.

    Colours, shapes and numbers that are asked about occur once in the picture, and nothing is asked that is near a
    border: no list of shapes in a disputed order, no place at the edge of a ninth of the picture, no size of a medium
    shape.
    """
    questions = []
    if order_is_clear(scene.shapes, scene.height):
        questions.append(Question("caption", "What is this a picture of?", caption(scene)))
    questions += [
        Question("count", "How many shapes are there?", count(scene)),
        Question("background", "What colour is the background?", background(scene)),
    ]
    colours = Counter(shape.colour for shape in scene.shapes)
    if alone := [shape for shape in scene.shapes if colours[shape.colour] == 1]:
        questions.append(Question("shape", f"What shape is {alone[0].colour}?", shape_of_colour(alone[0])))
    kinds = Counter(shape.kind for shape in scene.shapes)
    if alone := [shape for shape in scene.shapes if kinds[shape.kind] == 1]:
        questions += _about(scene, alone[-1])
    digits = [shape.digit for shape in scene.shapes if shape.digit is not None]
    if len(digits) == 1:
        questions.append(Question("number", "What number do you see?", number(digits[0])))
    return tuple(questions)


def _about(scene: Scene, shape: Shape) -> list[Question]:
    """Return questions that name a shape, the only one of its kind."""
    questions = [
        Question("colour", f"What colour is the {shape.kind}?", colour_of_shape(shape)),
        Question("exists", f"Is there {with_article(shape.kind)}?", there_is(shape.kind)),
    ]
    if place_is_clear(scene, shape):
        questions.append(Question("where", f"Where is the {shape.kind}?", where(scene, shape)))
    if shape.size != "medium":
        questions.append(Question("size", f"Is the {shape.kind} large or small?", size(shape)))
    return questions


def caption(scene: Scene) -> str:
    """Return the sentence that names every shape, row by row."""
    return "This is a picture of " + listing([with_article(shape.name) for shape in scene.shapes]) + "."


def count(scene: Scene) -> str:
    """Return the sentence that says how many shapes there are."""
    return f"{there_are(len(scene.shapes))}."


def there_are(shapes: int) -> str:
    """Return "There are two shapes", without a full stop."""
    return "There is one shape" if shapes == 1 else f"There are {NUMBERS[shapes]} shapes"


def background(scene: Scene) -> str:
    """Return the sentence that names the background."""
    return f"The background is {scene.background}."


def shape_of_colour(shape: Shape) -> str:
    """Return the answer to "What shape is red?"."""
    return f"The {shape.kind} is {shape.colour}."


def colour_of_shape(shape: Shape) -> str:
    """Return the answer to "What colour is the circle?"."""
    return f"The {shape.kind} is {shape.colour}."


def there_is(thing: str) -> str:
    """Return the answer to "Is there a circle?" if there is one."""
    return f"Yes, there is {with_article(thing)}."


def where(scene: Scene, shape: Shape) -> str:
    """Return the answer to "Where is the circle?"."""
    return f"The {shape.kind} is {place_of(scene, shape)}."


def size(shape: Shape) -> str:
    """Return the answer to "Is the circle large or small?"."""
    return f"The {shape.kind} is {shape.size}."


def number(digit: int) -> str:
    """Return the answer to "What number do you see?"."""
    return f"The number is {digit}."
