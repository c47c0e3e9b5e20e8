"""The pictures and questions that accuracy is measured on; training never draws from these seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from free_scene import sample_free_scene
from PIL import Image
from pool import GRID_SHARE, stored
from questions import held_out_shapes, questions_about
from runtime.demo.drawing import draw
from runtime.demo.questions import Question, reliable_questions
from runtime.demo.scene import Scene, sample_scene, scene_of_seed
from small_talk import small_talk
from svg_scene import sample_svg

SOURCES = ("drawn", "svg")
"""As for training, and by another program that training never sees."""


@dataclass(frozen=True, slots=True)
class Example:
    """A picture and one question of each kind that it allows."""

    scene: Scene
    image: Image.Image
    questions: tuple[Question, ...]


def picture_examples(source: str, count: int, seed: int, *, held_out: bool = False) -> Iterator[Example]:
    """Yield pictures of (colour, shape) pairs that training has shown.

    With `held_out` at least one pair of each is not, and questions about one shape are about such a shape.
    """
    rng = Random(f"{source} {held_out} {seed}")
    for _ in range(count):
        scene, image = _picture(source, rng, held_out=held_out)
        focus = held_out_shapes(scene) if held_out else None
        yield Example(scene, image, tuple(questions_about(scene, rng, held_out=held_out, focus=focus)))


def suggested_examples(count: int, seed: int) -> Iterator[Example]:
    """Yield pictures as `runtime demo picture` draws them from that seed on, with the questions that it suggests."""
    for each in range(seed, seed + count):
        scene = scene_of_seed(each)
        yield Example(scene, draw(scene), reliable_questions(scene))


def text_examples(count: int, seed: int) -> Iterator[Question]:
    """Yield turns without a picture."""
    rng = Random(f"text {seed}")
    for _ in range(count):
        yield small_talk(rng)


def _picture(source: str, rng: Random, *, held_out: bool) -> tuple[Scene, Image.Image]:
    if source == "svg":
        picture = sample_svg(rng, held_out=held_out)
        return picture.scene, picture.render()
    in_grid = rng.random() < GRID_SHARE
    scene = sample_scene(rng, held_out=held_out) if in_grid else sample_free_scene(rng, held_out=held_out)
    return scene, stored(draw(scene), rng)
