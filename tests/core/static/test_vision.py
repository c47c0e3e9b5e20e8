"""The vision tower and the projector against transformers' modules, in fp32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runtime.backend import ModelSpec
from runtime.errors import BackendRefused
from runtime.model import read_model
from runtime.static.kernels import TorchKernels
from runtime.static.vision import VisionTower
from runtime.static.weights import Weights
from runtime_cpu_reference.net import load_net
from safetensors.torch import load_file, save_file
from support.checkpoints import DEMO, Checkpoint, write_checkpoint

CHECKPOINTS = {
    "the layer before the last": Checkpoint(),
    "the last layer": Checkpoint(feature_layer=-1, dtype="float32", seed=1),
    "an early layer": Checkpoint(vision_layers=3, feature_layer=1, seed=2),
    "tiles that patches do not fill": Checkpoint(tile=30, patch=7, pinpoints=((30, 60), (60, 60)), seed=3),
}


def tower_of(model: ModelSpec) -> VisionTower:
    assert model.vision is not None
    assert model.images is not None
    with Weights(model.path, torch.float32) as weights:
        return VisionTower(model.vision, model.images, model.hidden, weights, TorchKernels())


def expected(net: Any, tiles: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
    """Features by transformers: [tiles * patches, hidden]."""
    states = net.model.vision_tower(tiles, output_hidden_states=True).hidden_states
    chosen = torch.cat([states[layer] for layer in layers], -1)
    features: torch.Tensor = net.model.multi_modal_projector(chosen[:, 1:])
    return features.flatten(0, 1)


@torch.inference_mode()
def check(folder: Path) -> None:
    model = read_model(folder)
    assert model.vision is not None
    assert model.images is not None
    side = model.images.tile
    tiles = torch.randn(5, 3, side, side, generator=torch.Generator().manual_seed(0))
    wanted = expected(load_net(model), tiles, model.vision.feature_layers)
    found = tower_of(model)(tiles)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_features_are_transformers_(name: str, tmp_path: Path) -> None:
    """Whatever layer they are of, and however the tiles are cut."""
    check(write_checkpoint(tmp_path, CHECKPOINTS[name]))


def test_features_of_the_bundled_model_are_transformers_() -> None:
    """Trained weights have other sizes than random ones."""
    check(DEMO)


def test_features_of_several_layers_lie_side_by_side(tmp_path: Path) -> None:
    """In the order of the config."""
    folder = write_checkpoint(tmp_path, Checkpoint(seed=4))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_feature_layer": [-1, 1]}))
    weights = load_file(folder / "model.safetensors")
    name = "multi_modal_projector.linear_1.weight"
    weights[name] = torch.cat([weights[name], weights[name].flip(0)], 1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    check(folder)


@pytest.mark.parametrize("part", ["activation", "projector_activation"])
def test_an_unknown_activation_is_refused(part: str, tmp_path: Path) -> None:
    """By name, with the ones there are."""
    model = read_model(write_checkpoint(tmp_path, Checkpoint()))
    assert model.vision is not None
    with pytest.raises(BackendRefused, match="'mish' is not supported, only quick_gelu, gelu, relu"):
        tower_of(replace(model, vision=replace(model.vision, **{part: "mish"})))
