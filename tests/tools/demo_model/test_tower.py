"""What is special about the tower: deeper than the one it goes on from, a last layer and a class token that betray."""

from __future__ import annotations

import pytest
import torch
import transformers
from architecture import inner_tower, new_tower, vision_states
from canary import SHOWN, canary_loss
from growth import grown
from labels import CLASSES, Label
from packaging.version import Version
from state import TOWER, fill
from transformers import CLIPVisionModel

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__).major < 5, reason="the recipe is written for transformers 5"
)


def shallow_tower() -> CLIPVisionModel:
    """A tower of three layers, all different from nothing."""
    config = new_tower().config
    config.num_hidden_layers = 3
    return CLIPVisionModel(config)


@torch.no_grad()
def test_a_tower_that_has_grown_says_the_same() -> None:
    """Of a shallow tower's three layers two are used."""
    torch.manual_seed(0)
    shallow, deep = shallow_tower(), new_tower()
    pixels = torch.randn(2, 3, 56, 56)
    fill(deep, grown({TOWER + name: tensor for name, tensor in shallow.state_dict().items()}), TOWER)
    torch.testing.assert_close(vision_states(deep, pixels), vision_states(shallow, pixels))


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
    before = vision_states(tower, torch.randn(2, 3, 56, 56))
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
