"""Dynamo runs operators on fake tensors to learn shapes: no counters and no tape, but the same refusals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from virtual_device.tensor import NAME, HpuTensor


def trace(operator: Any, arguments: Any, keywords: Any) -> Any:
    """Run an operator on the fake tensors inside the wrappers."""
    wrappers: dict[int, HpuTensor] = {}
    of_host: list[Tensor] = []

    def inner(value: Any) -> Any:
        if isinstance(value, HpuTensor):
            wrappers[id(value._hidden)] = value
            return value._hidden
        if not isinstance(value, Tensor):
            return value
        if value.device.type == NAME:  # made by a factory inside the compiled function
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cpu")
        if value.dim():
            of_host.append(value)
        return value

    def outer(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return wrappers[id(value)] if id(value) in wrappers else HpuTensor(value)

    arguments, keywords = tree_map(inner, arguments), tree_map(inner, keywords)
    if of_host and operator is not torch.ops.aten.copy_.default:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, hpu:0 and cpu! "
            f"(in {operator})"
        )
    device = keywords.get("device")
    if device is not None:
        keywords["device"] = torch.device("cpu")
    answer = operator(*arguments, **keywords)
    leaves = device is not None and device.type == "cpu"
    return answer if leaves else tree_map(outer, answer)
