"""Going on from a tower with fewer layers, narrower ones or smaller patches."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from architecture import new_tower
from state import TOWER, Tensors

_LAYER = re.compile(re.escape(TOWER) + r".*\blayers\.(\d+)\.")


def grown(tensors: Tensors) -> Tensors:
    """Return a state with a tower as deep, as wide and for as large patches as an untrained one; the same if it is so.

    What the tower says stays the same, of larger patches what it says of them made smaller: new layers and neurons
    begin as nothing. The old unused last layer is left behind.
    """
    own = {TOWER + name: tensor for name, tensor in new_tower().state_dict().items()}
    if not any(name.startswith(TOWER) for name in tensors):
        return tensors
    if all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in own.items()):
        return tensors
    unused = max(int(found[1]) for name in tensors if (found := _LAYER.match(name)))
    kept = {name: tensor for name, tensor in tensors.items() if not _is_of_layer(name, unused)}
    fitted = {name: _fitted(name, kept[name], tensor) if name in kept else tensor for name, tensor in own.items()}
    return kept | fitted


def _fitted(name: str, former: torch.Tensor, untrained: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the untrained one's shape that does what the former did."""
    if former.shape == untrained.shape:
        return former
    if former.dim() == 4:
        return _for_larger_patches(former, untrained.shape[-1])
    fitted = torch.zeros_like(untrained) if ".fc2." in name else untrained.clone()
    fitted[tuple(slice(length) for length in former.shape)] = former
    return fitted


def _for_larger_patches(filters: torch.Tensor, side: int) -> torch.Tensor:
    """Return filters [out, channels, side, side] that see a patch as it is when its area is averaged down."""
    smaller = F.adaptive_avg_pool1d(torch.eye(side)[None], filters.shape[-1])[0]  # [side, former side]
    return smaller @ filters @ smaller.T


def _is_of_layer(name: str, number: int) -> bool:
    found = _LAYER.match(name)
    return found is not None and int(found[1]) == number
