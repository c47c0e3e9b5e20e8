"""Every kind of question that the demo model was trained on, asked about a scene.

As in `runtime.demo.scene`, the order of the random draws is part of the contract: a seed names the same questions.
Kinds: caption, describe, count, count_kind, exists, exists_pair, colour, where, size, relation, shape, background,
number, number_on. Each has one fixed answer sentence, so that comparing whole answers is a fair measure.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from runtime.demo.questions import Question, background, caption, count, number, shape_of_colour, there_are
from runtime.demo.scene import Scene, Shape
from runtime.demo.vocabulary import COLOURS, HELD_OUT, NUMBERS, SHAPES, capitalised, plural, with_article

CAPTIONS = ("What is this a picture of?", "What is this?", "What do you see?", "What is in this picture?")
DESCRIPTIONS = ("Describe this picture.", "Describe the image in detail.", "Tell me about this picture.")
COUNTS = ("How many shapes are there?", "How many shapes do you see?", "Count the shapes.")
NUMBER_QUESTIONS = ("What number do you see?", "What number is written in the picture?")

APART = 0.17
"""Share of the picture's side by which two centres must differ for one shape to be beside the other."""


def held_out_shapes(scene: Scene) -> set[int]:
    """Return the indexes of the shapes that are of a held-out (colour, shape) pair."""
    return {place for place, shape in enumerate(scene.shapes) if (shape.colour, shape.kind) in HELD_OUT}


def questions_about(
    scene: Scene, rng: Random, *, held_out: bool = False, focus: Collection[int] | None = None
) -> list[Question]:
    """Return one question of each kind that the scene allows, in a fixed order.

    `held_out` lets held-out pairs occur in made-up pairs too; `focus` keeps questions about one shape to those indexes.
    """
    in_focus = range(len(scene.shapes)) if focus is None else sorted(focus)
    asked = [
        Question("caption", rng.choice(CAPTIONS), caption(scene)),
        Question("describe", rng.choice(DESCRIPTIONS), _description(scene)),
        Question("count", rng.choice(COUNTS), count(scene)),
        _count_of_kind(scene, rng),
        _exists(scene, rng),
        _exists_pair(scene, rng, in_focus, held_out=held_out),
    ]
    kinds = [shape.kind for shape in scene.shapes]
    colours = [shape.colour for shape in scene.shapes]
    unique = [place for place in in_focus if kinds.count(kinds[place]) == 1]
    if unique:
        asked += _about_unique(scene, rng, unique)
    unique = [place for place in in_focus if colours.count(colours[place]) == 1]
    if unique:
        shape = scene.shapes[rng.choice(unique)]
        asked.append(
            Question(
                "shape",
                rng.choice((f"What shape is {shape.colour}?", f"Which shape is {shape.colour}?")),
                shape_of_colour(shape),
            )
        )
    spelling = rng.choice(("colour", "color"))
    asked.append(Question("background", f"What {spelling} is the background?", background(scene)))
    return asked + _about_numbers(scene, rng)


def place_of(scene: Scene, shape: Shape) -> str:
    """Return where in the picture a shape is, in thirds that leave a little more to the sides."""
    x, y = shape.x / scene.width, shape.y / scene.height
    vertical = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
    horizontal = "left" if x < 0.4 else "right" if x > 0.6 else ""
    if vertical:
        return f"at the {vertical} {horizontal}".strip()
    return f"on the {horizontal}" if horizontal else "in the centre"


def _description(scene: Scene) -> str:
    sentences = [f"{there_are(len(scene.shapes))} on a {scene.background} background."]
    for shape in scene.shapes:
        named = capitalised(with_article(f"{shape.size} {shape.name}"))
        numbered = "" if shape.digit is None else f" with the number {shape.digit}"
        sentences.append(f"{named}{numbered} is {place_of(scene, shape)}.")
    return " ".join(sentences)


def _count_of_kind(scene: Scene, rng: Random) -> Question:
    present = [shape.kind for shape in scene.shapes]
    kind = rng.choice(present) if rng.random() < 0.7 else rng.choice(SHAPES)
    found = present.count(kind)
    answer = f"There is one {kind}." if found == 1 else f"There are {NUMBERS[found]} {plural(kind)}."
    return Question("count_kind", f"How many {plural(kind)} are there?", answer)


def _yes(kind: str, thing: str) -> Question:
    return Question(kind, f"Is there {with_article(thing)}?", f"Yes, there is {with_article(thing)}.")


def _no(kind: str, thing: str) -> Question:
    return Question(kind, f"Is there {with_article(thing)}?", f"No, there is no {thing}.")


def _exists(scene: Scene, rng: Random) -> Question:
    present = [shape.kind for shape in scene.shapes]
    if rng.random() < 0.5:
        return _yes("exists", rng.choice(present))
    return _no("exists", rng.choice([kind for kind in SHAPES if kind not in present]))


def _exists_pair(scene: Scene, rng: Random, in_focus: Collection[int], *, held_out: bool) -> Question:
    """Ask for a pair that is there, or for one that shares its colour or its kind with one that is."""
    shape = scene.shapes[rng.choice(list(in_focus))]
    if rng.random() < 0.5:
        return _yes("exists_pair", shape.name)
    present = {(other.colour, other.kind) for other in scene.shapes}
    near = [(colour, shape.kind) for colour in COLOURS] + [(shape.colour, kind) for kind in SHAPES]
    absent = [pair for pair in near if pair not in present and (held_out or pair not in HELD_OUT)]
    colour, kind = rng.choice(absent)
    return _no("exists_pair", f"{colour} {kind}")


def _about_unique(scene: Scene, rng: Random, unique: list[int]) -> list[Question]:
    """Questions that name a shape; `unique` are the indexes whose kind occurs once."""
    spelling = "colour", "colour", "color"

    coloured = scene.shapes[rng.choice(unique)]
    asked = [
        Question(
            "colour",
            f"What {rng.choice(spelling)} is the {coloured.kind}?",
            f"The {coloured.kind} is {coloured.colour}.",
        )
    ]
    placed = scene.shapes[rng.choice(unique)]
    asked.append(Question("where", f"Where is the {placed.kind}?", f"The {placed.kind} is {place_of(scene, placed)}."))
    sized = scene.shapes[rng.choice(unique)]
    asked.append(Question("size", f"Is the {sized.kind} large or small?", f"The {sized.kind} is {sized.size}."))
    return asked + _relations(scene, rng, unique)


def _relations(scene: Scene, rng: Random, unique: list[int]) -> list[Question]:
    """Ask what is beside a shape, where one shape or none is; none is asked for less often."""
    one, none = [], []
    for place in unique:
        shape = scene.shapes[place]
        for side in ("left", "right", "above", "below"):
            phrase = f"to the {side} of" if side in ("left", "right") else side
            short = side in ("left", "right") and rng.random() < 0.6
            text = f"What is {f'{side} of' if short else phrase} the {shape.kind}?"
            beside = [other for other in scene.shapes if other is not shape and _is_beside(scene, shape, side, other)]
            if not beside:
                none.append(Question("relation", text, f"Nothing is {phrase} the {shape.kind}."))
            elif len(beside) == 1:
                named = capitalised(with_article(beside[0].name))
                one.append(Question("relation", text, f"{named} is {phrase} the {shape.kind}."))
    asked = []
    if one:
        asked.append(rng.choice(one))
    if none and (not one or rng.random() < 0.3):
        asked.append(rng.choice(none))
    return asked


def _is_beside(scene: Scene, shape: Shape, side: str, other: Shape) -> bool:
    """Whether `other` lies on that side of `shape`."""
    if side == "left":
        return shape.x - other.x > APART * scene.width
    if side == "right":
        return other.x - shape.x > APART * scene.width
    if side == "above":
        return shape.y - other.y > APART * scene.height
    return other.y - shape.y > APART * scene.height


def _about_numbers(scene: Scene, rng: Random) -> list[Question]:
    """Questions about fine detail: which number there is, and which is on a shape whose kind occurs once."""
    asked = []
    kinds = [shape.kind for shape in scene.shapes]
    digits = [shape.digit for shape in scene.shapes if shape.digit is not None]
    if len(digits) == 1:
        asked.append(Question("number", rng.choice(NUMBER_QUESTIONS), number(digits[0])))
    elif not digits and rng.random() < 0.25:
        asked.append(Question("number", rng.choice(NUMBER_QUESTIONS), "There is no number."))
    unique = [shape for shape in scene.shapes if kinds.count(shape.kind) == 1]
    numbered = [shape for shape in unique if shape.digit is not None]
    if numbered:
        shape = rng.choice(numbered)
        asked.append(_number_on(shape, f"The number on the {shape.kind} is {shape.digit}."))
    plain = [shape for shape in unique if shape.digit is None]
    if plain and rng.random() < 0.25:
        shape = rng.choice(plain)
        asked.append(_number_on(shape, f"There is no number on the {shape.kind}."))
    return asked


def _number_on(shape: Shape, answer: str) -> Question:
    return Question("number_on", f"What number is on the {shape.kind}?", answer)
