"""Questions about a scene that the demo model is good at, with their right answers.

The wording is exact: the model was trained on these sentences, and an answer is right when it is the whole sentence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from runtime.demo.scene import Scene, Shape
from runtime.demo.vocabulary import NUMBERS, listing, with_article


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the one answer that counts as right."""

    kind: str
    text: str
    answer: str


def reliable_questions(scene: Scene) -> tuple[Question, ...]:
    """Return one question of each kind that the model is good at and that the scene allows.

    The kinds are caption, count, background, shape (named by a colour that occurs once) and number (if just one
    shape carries a digit). Questions that name a shape are left out: the model does little more than guess at them.
    """
    questions = [
        Question("caption", "What is this a picture of?", caption(scene)),
        Question("count", "How many shapes are there?", count(scene)),
        Question("background", "What colour is the background?", background(scene)),
    ]
    colours = Counter(shape.colour for shape in scene.shapes)
    alone = [shape for shape in scene.shapes if colours[shape.colour] == 1]
    if alone:
        questions.append(Question("shape", f"What shape is {alone[0].colour}?", shape_of_colour(alone[0])))
    digits = [shape.digit for shape in scene.shapes if shape.digit is not None]
    if len(digits) == 1:
        # Of the trained phrasings this one also survives stray blank lines around the question.
        questions.append(Question("number", "What number do you see?", number(digits[0])))
    return tuple(questions)


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


def number(digit: int) -> str:
    """Return the answer to "What number do you see?"."""
    return f"The number is {digit}."
