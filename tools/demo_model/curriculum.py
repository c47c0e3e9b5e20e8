"""What is asked when: a few stages on one thing each, then everything.

A question that names a shape pays nothing until the model can find a shape by its name, so in an even mix it stays a
guess for very long. Asked alone, on pictures of two shapes, it is learnt in minutes. Every stage keeps a share of the
full mix, or the rest would be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from encoding import CHAT, CHAT_IN_LINE, RAW, Encoder, Form, Segment
from questions import questions_about
from runtime.demo.questions import Question
from runtime.demo.scene import Scene

QUESTIONS_A_PICTURE = 10

RAW_SHARE = 0.25
"""Of pictures that are asked about without a template."""

IN_LINE_SHARE = 0.1
"""Of the others that are asked about without the line end of the template."""

CHAINED_SHARE = 0.15
"""Of pictures that are asked about in conversations of several turns."""

HARD = {"caption": 1, "describe": 1, "number": 1, "exists_pair": 3}
"""Kinds that are asked about every picture of the full mix that allows them, and how often."""

FOCUS_SHARE = 0.75
"""Of batches that keep to the focus of their stage."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run."""

    until: float
    """Share of the run's steps at which it ends."""
    focus: frozenset[str] = frozenset()
    """Kinds of question that it is about, on pictures of two shapes; none is the full mix."""


STAGES = (
    Stage(0.12, frozenset(("colour", "shape"))),
    Stage(0.44, frozenset(("colour", "exists"))),
    Stage(0.56, frozenset(("where", "relation", "size"))),
    Stage(0.64, frozenset(("exists", "exists_pair"))),
    Stage(1.0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """All that is asked about one picture in one step."""

    form: Form
    """Of which only what comes before the question is common to all segments."""
    segments: tuple[Segment, ...]
    kinds: tuple[str, ...]
    """Of the question of each segment, `conversation` if it has several."""


def stage_of(share: float) -> Stage:
    """Return the stage after that share of the run's steps."""
    return next(stage for stage in STAGES if share < stage.until or stage is STAGES[-1])


def row_of(scene: Scene, rng: Random, encoder: Encoder, focus: frozenset[str]) -> Row:
    """Return questions about a scene, all of them in focus if there is one."""
    questions = _questions(scene, rng, focus)
    form = RAW if rng.random() < RAW_SHARE else CHAT
    if rng.random() < CHAINED_SHARE:
        chains = encoder.conversations(questions, form)
        return Row(form, tuple(chains), ("conversation",) * len(chains))
    forms = [CHAT_IN_LINE if form is CHAT and rng.random() < IN_LINE_SHARE else form for _ in questions]
    segments = tuple(encoder.first_turn(question, each) for question, each in zip(questions, forms, strict=True))
    return Row(form, segments, tuple(question.kind for question in questions))


def _questions(scene: Scene, rng: Random, focus: frozenset[str]) -> list[Question]:
    """Return as many different questions as a row holds, or fewer if the scene allows no more."""
    questions: list[Question] = []
    for _ in range(5 if focus else max(HARD.values())):
        drawn = questions_about(scene, rng)
        questions += [each for each in drawn if not focus or each.kind in focus]
    different = list(dict.fromkeys(questions))
    rng.shuffle(different)
    if not focus:  # what takes longest is never left out
        by_kind = {kind: [question for question in different if question.kind == kind] for kind in HARD}
        hard = [question for kind, most in HARD.items() for question in by_kind[kind][:most]]
        different = hard + [question for question in different if question not in hard]
    return different[:QUESTIONS_A_PICTURE] or questions_about(scene, rng)[:2]
