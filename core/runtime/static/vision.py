"""The CLIP vision tower and the projector: tiles of pictures -> vectors the decoder takes as tokens.

Source of the arithmetic: transformers, models/clip/modeling_clip.py and models/llava_next/modeling_llava_next.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F

from runtime.backend import ImageGeometry, VisionGeometry
from runtime.errors import BackendRefused
from runtime.static.kernels import Kernels, Linear
from runtime.static.weights import Weights


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """CLIP's approximation of GELU."""
    return (1.702 * x).sigmoid_().mul_(x)


ACTIVATIONS: Final[Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "relu": F.relu,
}
"""By transformers' names."""

TOWER: Final = "vision_tower.vision_model."


class VisionTower:
    """Computes the features of tiles."""

    def __init__(
        self, vision: VisionGeometry, images: ImageGeometry, hidden: int, weights: Weights, kernels: Kernels
    ) -> None:
        """Load the weights; `hidden` is the decoder's width. Raises BackendRefused when they do not fit."""
        width, patch = vision.hidden, images.patch
        self._patch = patch
        self._side = images.tile // patch
        self._epsilon = vision.norm_epsilon
        embeddings = f"{TOWER}embeddings."
        kernel = weights.tensor(f"{embeddings}patch_embedding.weight", width, 3, patch, patch)
        self._embed = kernels.linear(kernel.flatten(1), None)  # a convolution whose stride is its size
        positions = weights.tensor(f"{embeddings}position_embedding.weight", self._side**2 + 1, width)
        self._first = weights.tensor(f"{embeddings}class_embedding", width) + positions[0]
        self._positions = positions[1:]
        self._before = _Norm(f"{TOWER}pre_layrnorm", width, weights, vision.norm_epsilon)
        self._wanted = vision.feature_layers
        self._layers = [
            _Layer(f"{TOWER}encoder.layers.{index}.", vision, weights, kernels) for index in range(max(self._wanted))
        ]
        self._project_in = _linear(
            "multi_modal_projector.linear_1", hidden, width * len(self._wanted), weights, kernels, vision.projector_bias
        )
        self._project_out = _linear(
            "multi_modal_projector.linear_2", hidden, hidden, weights, kernels, vision.projector_bias
        )
        self._activation = _activation(vision.projector_activation)
        self.dtype = positions.dtype
        self.device = positions.device

    def __call__(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the vectors of tiles [tiles, 3, side, side], without class tokens: [tiles * patches, hidden]."""
        return self.project(self.features(self.states(tiles), len(tiles)))

    def states(self, tiles: torch.Tensor) -> list[torch.Tensor]:
        """Return the input of the first layer and the output of each: [tiles * (patches + 1), width]."""
        hidden = self._before(self._embedded(tiles))
        states = [hidden]
        for layer in self._layers:
            hidden = layer(hidden, len(tiles))
            states.append(hidden)
        return states

    def features(self, states: Sequence[torch.Tensor], tiles: int) -> torch.Tensor:
        """Return the wanted states side by side, without class tokens: [tiles * patches, width * wanted]."""
        chosen = torch.cat([states[index] for index in self._wanted], -1)
        return chosen.view(tiles, self._side**2 + 1, -1)[:, 1:].reshape(tiles * self._side**2, -1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Return what the projector makes of features: [tiles * patches, hidden]."""
        return self._project_out(self._activation(self._project_in(features)))

    def _embedded(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the vectors of class token and patches, [tiles * (patches + 1), width]."""
        count, side, patch = len(tiles), self._side, self._patch
        cut = tiles[:, :, : side * patch, : side * patch].view(count, 3, side, patch, side, patch)
        patches = cut.permute(0, 2, 4, 1, 3, 5).reshape(count * side**2, -1)  # [tiles * patches, 3 * patch * patch]
        vectors = self._embed(patches).view(count, side**2, -1) + self._positions
        first = self._first.expand(count, 1, -1)
        return torch.cat([first, vectors], 1).flatten(0, 1)


class _Layer:
    """Attention within each tile, then the MLP."""

    def __init__(self, prefix: str, vision: VisionGeometry, weights: Weights, kernels: Kernels) -> None:
        width = vision.hidden
        self._heads = vision.heads
        self._kernels = kernels
        names = [f"{prefix}self_attn.{part}_proj" for part in "qkv"]
        weight = weights.stacked([f"{name}.weight" for name in names], [width] * 3, width)
        self._qkv = kernels.linear(weight, weights.stacked([f"{name}.bias" for name in names], [width] * 3))
        self._out = _linear(f"{prefix}self_attn.out_proj", width, width, weights, kernels)
        self._in = _linear(f"{prefix}mlp.fc1", vision.mlp, width, weights, kernels)
        self._activation = _activation(vision.activation)
        self._back = _linear(f"{prefix}mlp.fc2", width, vision.mlp, weights, kernels)
        self._attention_norm = _Norm(f"{prefix}layer_norm1", width, weights, vision.norm_epsilon)
        self._mlp_norm = _Norm(f"{prefix}layer_norm2", width, weights, vision.norm_epsilon)

    def __call__(self, hidden: torch.Tensor, tiles: int) -> torch.Tensor:
        qkv = self._qkv(self._attention_norm(hidden)).view(tiles, len(hidden) // tiles, 3, self._heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # [tiles, heads, tokens, d] each
        seen = self._kernels.attend(query, key, value).transpose(1, 2).reshape(hidden.shape)
        hidden = hidden + self._out(seen)
        return hidden + self._back(self._activation(self._in(self._mlp_norm(hidden))))


class _Norm:
    """Layer norm, the same on every device."""

    def __init__(self, name: str, width: int, weights: Weights, epsilon: float) -> None:
        self._weight = weights.tensor(f"{name}.weight", width)
        self._bias = weights.tensor(f"{name}.bias", width)
        self._epsilon = epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self._weight.shape, self._weight, self._bias, self._epsilon)


def _linear(name: str, rows: int, columns: int, weights: Weights, kernels: Kernels, has_bias: bool = True) -> Linear:
    bias = weights.tensor(f"{name}.bias", rows) if has_bias else None
    return kernels.linear(weights.tensor(f"{name}.weight", rows, columns), bias)


def _activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if name not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise BackendRefused(f"the activation {name!r} is not supported, only {known}; use cpu_reference")
    return ACTIVATIONS[name]
