"""Every kind of question that the demo model is trained on, asked about a scene.

Each kind has one fixed answer sentence, so that comparing whole answers is a fair measure. Nothing is asked that is
near a border (see `truth`): no size of a medium shape, no place at the edge of a ninth, no list in a disputed order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from random import Random

from runtime.demo.questions import (
    Question,
    background,
    caption,
    colour_of_shape,
    count,
    number,
    shape_of_colour,
    size,
    there_are,
    there_is,
    where,
)
from runtime.demo.scene import Scene, Shape
from runtime.demo.truth import APART, order_is_clear, place_is_clear, place_of
from runtime.demo.vocabulary import COLOURS, HELD_OUT, SHAPES, capitalised, with_article

KINDS = (
    "caption",
    "describe",
    "count",
    "background",
    "colour",
    "shape",
    "exists",
    "exists_pair",
    "where",
    "size",
    "relation",
    "number",
    "format",
)

CAPTIONS = ("What is this a picture of?", "What is this?", "What do you see?", "What is in this picture?")
DESCRIPTIONS = ("Describe this picture.", "Describe the image in detail.", "Tell me about this picture.")
COUNTS = ("How many shapes are there?", "How many shapes do you see?", "Count the shapes.")
NUMBER_QUESTIONS = ("What number do you see?", "What number is written in the picture?")
FORMAT_QUESTIONS = ("Is the picture wide, tall or square?", "What is the format of the picture?")
FORMATS = {"tall": (0.0, 0.75), "square": (0.88, 1.14), "wide": (1.33, math.inf)}
"""Width by height of what each word is said of; between them nobody is asked."""
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CROSSED_SHARE = 0.5
"""Of absent pairs that are asked for, as far as there are such: a red circle beside a blue star makes no red star."""


def held_out_shapes(scene: Scene) -> set[int]:
    """Return the indexes of the shapes that are of a held-out (colour, shape) pair."""
    return {place for place, shape in enumerate(scene.shapes) if (shape.colour, shape.kind) in HELD_OUT}


def questions_about(
    scene: Scene, rng: Random, *, held_out: bool = False, focus: Collection[int] | None = None
) -> list[Question]:
    """Return one question of each kind that the scene allows, in the order of KINDS.

    `held_out` lets held-out pairs occur in made-up pairs too; `focus` keeps questions about one shape to those indexes.
    """
    in_focus = range(len(scene.shapes)) if focus is None else sorted(focus)
    spelling = rng.choice(("colour", "colour", "color"))
    asked = [
        Question("count", rng.choice(COUNTS), count(scene)),
        Question("background", f"What {spelling} is the background?", background(scene)),
        _exists(scene, rng),
        _exists_pair(scene, rng, in_focus, held_out=held_out),
    ]
    if order_is_clear(scene.shapes, scene.height):
        asked.append(Question("caption", rng.choice(CAPTIONS), caption(scene)))
        if all(place_is_clear(scene, shape) for shape in scene.shapes):
            asked.append(Question("describe", rng.choice(DESCRIPTIONS), description(scene)))
    for about_one in (_colour, _shape, _where, _size, _relation):
        asked += about_one(scene, rng, in_focus)
    asked += _number(scene, rng)
    asked += _format(scene, rng)
    return sorted(asked, key=lambda question: KINDS.index(question.kind))


def description(scene: Scene) -> str:
    """Return how many shapes there are, on what, and where each is."""
    sentences = [f"{there_are(len(scene.shapes))} on a {scene.background} background."]
    sentences += [f"{capitalised(with_article(shape.name))} is {place_of(scene, shape)}." for shape in scene.shapes]
    return " ".join(sentences)


def _named_once(scene: Scene, in_focus: Collection[int]) -> list[Shape]:
    """Return the shapes in focus that their kind names without doubt."""
    kinds = [shape.kind for shape in scene.shapes]
    return [scene.shapes[place] for place in in_focus if kinds.count(kinds[place]) == 1]


def _exists(scene: Scene, rng: Random) -> Question:
    present = [shape.kind for shape in scene.shapes]
    if rng.random() < 0.5:
        return _yes("exists", rng.choice(present))
    return _no("exists", rng.choice([kind for kind in SHAPES if kind not in present]))


def _exists_pair(scene: Scene, rng: Random, in_focus: Collection[int], *, held_out: bool) -> Question:
    """Ask for a pair that is there, or for one that shares its colour or its kind with one that is, or with two."""
    shape = scene.shapes[rng.choice(list(in_focus))]
    if rng.random() < 0.5:
        return _yes("exists_pair", shape.name)
    present = {(other.colour, other.kind) for other in scene.shapes}
    near = [(colour, shape.kind) for colour in COLOURS] + [(shape.colour, kind) for kind in SHAPES]
    absent = [pair for pair in near if pair not in present and (held_out or pair not in HELD_OUT)]
    colours, kinds = ({pair[part] for pair in present} for part in (0, 1))
    crossed = [(colour, kind) for colour, kind in absent if colour in colours and kind in kinds]
    colour, kind = rng.choice(crossed if crossed and rng.random() < CROSSED_SHARE else absent)
    return _no("exists_pair", f"{colour} {kind}")


def _yes(kind: str, thing: str) -> Question:
    return Question(kind, f"Is there {with_article(thing)}?", there_is(thing))


def _no(kind: str, thing: str) -> Question:
    return Question(kind, f"Is there {with_article(thing)}?", f"No, there is no {thing}.")


def _colour(scene: Scene, rng: Random, in_focus: Collection[int]) -> Iterator[Question]:
    if named := _named_once(scene, in_focus):
        shape = rng.choice(named)
        spelling = rng.choice(("colour", "colour", "color"))
        yield Question("colour", f"What {spelling} is the {shape.kind}?", colour_of_shape(shape))


def _shape(scene: Scene, rng: Random, in_focus: Collection[int]) -> Iterator[Question]:
    colours = [shape.colour for shape in scene.shapes]
    if alone := [scene.shapes[place] for place in in_focus if colours.count(colours[place]) == 1]:
        shape = rng.choice(alone)
        text = rng.choice((f"What shape is {shape.colour}?", f"Which shape is {shape.colour}?"))
        yield Question("shape", text, shape_of_colour(shape))


def _where(scene: Scene, rng: Random, in_focus: Collection[int]) -> Iterator[Question]:
    if clear := [shape for shape in _named_once(scene, in_focus) if place_is_clear(scene, shape)]:
        shape = rng.choice(clear)
        yield Question("where", f"Where is the {shape.kind}?", where(scene, shape))


def _size(scene: Scene, rng: Random, in_focus: Collection[int]) -> Iterator[Question]:
    if sized := [shape for shape in _named_once(scene, in_focus) if shape.size != "medium"]:
        shape = rng.choice(sized)
        yield Question("size", f"Is the {shape.kind} large or small?", size(shape))


def _relation(scene: Scene, rng: Random, in_focus: Collection[int]) -> Iterator[Question]:
    """Ask whether one shape is on a certain side of another, where the two are well apart that way."""
    true = []
    named = _named_once(scene, range(len(scene.shapes)))
    for one in _named_once(scene, in_focus):
        for other in named:
            across, down = (other.x - one.x) / scene.width, (other.y - one.y) / scene.height
            if one is not other and abs(across) >= APART:
                true.append((one, "left of" if across > 0 else "right of", other))
            if one is not other and abs(down) >= APART:
                true.append((one, "above" if down > 0 else "below", other))
    if true:
        one, side, other = rng.choice(true)
        asked = rng.choice((side, OPPOSITES[side]))
        yes = "Yes" if asked == side else "No"
        yield Question(
            "relation",
            f"Is the {one.kind} {asked} the {other.kind}?",
            f"{yes}, the {one.kind} is {side} the {other.kind}.",
        )


def _number(scene: Scene, rng: Random) -> Iterator[Question]:
    """Ask for the one number there is; seldom where there is none, and never where there are two."""
    digits = [shape.digit for shape in scene.shapes if shape.digit is not None]
    if len(digits) == 1:
        yield Question("number", rng.choice(NUMBER_QUESTIONS), number(digits[0]))
    elif not digits and rng.random() < 0.25:
        yield Question("number", rng.choice(NUMBER_QUESTIONS), "There is no number.")


def _format(scene: Scene, rng: Random) -> Iterator[Question]:
    """Ask for the picture's own shape, which the line ends among its fine patches tell."""
    for word, (least, most) in FORMATS.items():
        if least <= scene.width / scene.height <= most:
            yield Question("format", rng.choice(FORMAT_QUESTIONS), f"The picture is {word}.")
