"""The arithmetic of the bounds, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from runtime.backend import DecoderGeometry, VisionGeometry
from support.geometries import LLAVA, make_geometry

from benchmarks.serving.bounds import (
    Machine,
    bound_of,
    head_weights,
    layer_weights,
    prompt_operations,
    step_bytes,
    tile_operations,
)

TOY = replace(
    LLAVA,
    layers=2,
    hidden=4,
    heads=2,
    kv_heads=1,
    vocabulary=10,
    decoder=DecoderGeometry(3, 5, 1e-5, 1e4, None, "silu", False, False, False),
    images=make_geometry(28, 14),
    vision=VisionGeometry(2, 3, 1, 6, 1e-5, "quick_gelu", (1,), "gelu", True),
)


def test_weights_are_those_of_every_matrix() -> None:
    """Per layer q and o 6 x 4, k and v 3 x 4, three of 5 x 4 in the MLP; the head is 10 x 4."""
    assert layer_weights(TOY) == 2 * (2 * 24 + 2 * 12 + 3 * 20)
    assert head_weights(TOY) == 40


def test_a_prompt_multiplies_every_weight_for_every_token_and_attends_to_those_before() -> None:
    """3 tokens: 6 pairs, each 2 products of 6 numbers in both layers; the head once."""
    assert prompt_operations(TOY, 3) == 2 * 264 * 3 + 6 * 2 * 2 * 6 * 2 + 2 * 40


def test_a_tile_counts_only_the_layers_its_features_need() -> None:
    """4 patches and a class token; one layer of the two."""
    embedding = 2 * 4 * 3 * 14 * 14 * 3
    layer = 2 * (4 * 9 + 2 * 18) * 5 + 2 * 2 * 5 * 5 * 3
    projector = 2 * 4 * (3 * 4 + 4 * 4)
    assert tile_operations(TOY) == embedding + layer + projector


def test_a_step_reads_weights_once_and_the_cache_of_every_row() -> None:
    """Two rows of 10 tokens: 2 layers of a key and a value of 3 numbers, two bytes each."""
    assert step_bytes(TOY, 2, 10) == 2 * (264 + 40) + 2 * 10 * 2 * 2 * 3 * 2


def test_llava_s_numbers() -> None:
    """The 7.24 billion weights of Mistral 7B, less the embedding table, which is not read."""
    assert layer_weights(LLAVA) + head_weights(LLAVA) == pytest.approx(7.24e9 - 32064 * 4096, rel=0.001)


def test_speeds_follow_from_the_machine_s_rates() -> None:
    """A machine that needs half a second for a prompt and a quarter for a step."""
    operations, read = prompt_operations(TOY, 8) + 3 * tile_operations(TOY), step_bytes(TOY, 2, 10)
    bound = bound_of(TOY, Machine(read=4 * read, multiply=2 * operations), 2, 8, 3, 4)
    assert (bound.prompt, bound.step, bound.decode) == (0.5, 0.25, 4)
    assert bound.aggregate == pytest.approx(2 * 4 / (2 * 0.5 + 3 * 0.25))
