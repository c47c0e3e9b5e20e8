"""What training leaves behind between its runs: tensors by name in one safetensors file, no pickle.

The names are the model's own, such as `model.vision_tower...`, and `patch_head...`, `token_head...` and `optimizer...`.
A file may hold a part of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlavaNextForConditionalGeneration

TOWER = "model.vision_tower."
PATCH_HEAD = "patch_head."
TOKEN_HEAD = "token_head."  # noqa: S105
OPTIMIZER = "optimizer."

ASIDE = (PATCH_HEAD, TOKEN_HEAD, OPTIMIZER)
"""Prefixes of what is not part of the model."""

Tensors = dict[str, torch.Tensor]


def save_state(path: Path, modules: Mapping[str, torch.nn.Module | Tensors]) -> None:
    """Write the tensors of some modules, each under its prefix; a file of that name is whole before and after."""
    tensors: Tensors = {}
    for prefix, module in modules.items():
        named = module.state_dict() if isinstance(module, torch.nn.Module) else module
        tensors |= {prefix + name: tensor.detach().cpu().clone() for name, tensor in named.items()}
    beside = path.with_name(path.name + ".part")
    save_file(tensors, beside)
    beside.replace(path)


def load_states(paths: Sequence[Path]) -> Tensors:
    """Return the tensors of several states, a later one taking the place of an earlier.

    A path may also be a checkpoint folder: its rounded weights, without heads, then serve as a state.
    """
    tensors: Tensors = {}
    for path in paths:
        if path.is_dir():
            tensors |= LlavaNextForConditionalGeneration.from_pretrained(path, dtype=torch.float32).state_dict()
        else:
            tensors |= load_file(path)
    return tensors


def part(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def fill(module: torch.nn.Module, tensors: Tensors, prefix: str) -> bool:
    """Put the tensors under a prefix into a module; False, and nothing done, if there are none.

    Raises RuntimeError if there are some but not exactly the module's own.
    """
    own = part(tensors, prefix)
    if own:
        module.load_state_dict(own)
    return bool(own)
