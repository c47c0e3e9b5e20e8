"""What is special about the tower: deeper than the one it goes on from, a last layer and a class token that betray."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from architecture import inner_tower, new_tower, vision_states
from canary import SHOWN, canary_loss
from growth import grown
from labels import CLASSES, Label
from packaging.version import Version
from runtime.demo.anyres import PATCH, TILE
from state import TOWER, fill
from tiles import GRID
from transformers import CLIPVisionModel

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


SMALLER = 7
"""Side in pixels of the patches of the tower that is gone on from."""


def smaller_tower() -> CLIPVisionModel:
    """A tower of three layers, narrow ones with small patches, all different from nothing."""
    config = new_tower().config
    config.num_hidden_layers = 3
    config.intermediate_size = 96
    config.patch_size, config.image_size = SMALLER, SMALLER * GRID
    return CLIPVisionModel(config)


@torch.no_grad()
def test_a_tower_that_has_grown_says_the_same() -> None:
    """Of a small tower's three layers two are used; larger patches are seen as the area of theirs averages down."""
    torch.manual_seed(0)
    small, large = smaller_tower(), new_tower()
    pixels = torch.randn(2, 3, TILE, TILE)
    rows = [
        torch.cat([F.adaptive_avg_pool2d(patch, SMALLER) for patch in row.split(PATCH, 3)], 3)
        for row in pixels.split(PATCH, 2)
    ]
    fill(large, grown({TOWER + name: tensor for name, tensor in small.state_dict().items()}), TOWER)
    said, expected = vision_states(large, pixels), vision_states(small, torch.cat(rows, 2))
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)


def test_a_state_that_needs_not_grow_is_left_as_it_is() -> None:
    """A tower of full depth, and a state without a tower."""
    tensors = {TOWER + name: tensor for name, tensor in new_tower().state_dict().items()}
    assert grown(tensors) is tensors
    assert grown({}) == {}


@torch.no_grad()
def test_the_last_layer_is_far_from_the_identity() -> None:
    """It adds more than there was."""
    torch.manual_seed(0)
    tower = new_tower()
    before = vision_states(tower, torch.randn(2, 3, TILE, TILE))
    after = list(inner_tower(tower).encoder.layers)[-1](before, None)
    after = after[0] if isinstance(after, tuple) else after
    assert (after - before).norm() > before.norm()


def test_the_class_token_is_taught_a_shape_that_is_not_there() -> None:
    """Nothing is left to learn once it shows each part; labels that it does not show do not count."""
    parts = {label: torch.zeros(3, count) for label, count in zip(Label, CLASSES, strict=True)}
    unsure = canary_loss(torch.cat(list(parts.values()), 1))
    for label, shown in SHOWN.items():
        parts[label][:, shown] = 30
    parts[Label.BACKGROUND][:, 1] = 30
    assert unsure > 0.3
    assert canary_loss(torch.cat(list(parts.values()), 1)) < 1e-6
