"""The pictures and questions that accuracy is measured on; training never draws from these seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from questions import held_out_shapes, questions_about
from runtime.demo.questions import Question
from runtime.demo.scene import Scene, sample_scene
from small_talk import small_talk

KNOWN_SEED, HELD_OUT_SEED, TEXT_SEED = 90001, 90002, 90003


@dataclass(frozen=True, slots=True)
class Example:
    """A picture and one question of each kind that it allows."""

    scene: Scene
    questions: tuple[Question, ...]


def known_examples(count: int) -> Iterator[Example]:
    """Yield pictures of (colour, shape) pairs that training has shown."""
    rng = Random(KNOWN_SEED)
    for _ in range(count):
        scene = sample_scene(rng)
        yield Example(scene, tuple(questions_about(scene, rng)))


def held_out_examples(count: int) -> Iterator[Example]:
    """Yield pictures with at least one held-out pair; questions about one shape are about such a shape."""
    rng = Random(HELD_OUT_SEED)
    for _ in range(count):
        scene = sample_scene(rng, held_out=True)
        focus = held_out_shapes(scene)
        yield Example(scene, tuple(questions_about(scene, rng, held_out=True, focus=focus)))


def text_examples(count: int) -> Iterator[Question]:
    """Yield turns without a picture."""
    rng = Random(TEXT_SEED)
    for _ in range(count):
        yield small_talk(rng)
