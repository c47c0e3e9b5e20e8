"""The back end `hpu_backend` of torch.compile: runs the graph as it is, and counts it as one compilation.

Torch finds it by the entry point of the distribution. It must not go through AOTAutograd, which would take the
wrappers apart and run bare operators of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo

from virtual_device.counters import NOW
from virtual_device.recipes import RECIPES
from virtual_device.release import LAZY
from virtual_device.state import STATE

torch._dynamo.trace_rules.add("virtual_device")  # the emulation itself is never traced


def hpu_backend(graph_module: torch.fx.GraphModule, example_inputs: Any, **options: Any) -> Callable[..., Any]:
    """Compile a graph; once for each graph and each set of shapes."""
    if LAZY:
        raise RuntimeError("torch.compile with hpu_backend is not supported in lazy mode")
    NOW.dynamo_graphs += 1
    RECIPES.compile(f"compiled_{NOW.dynamo_graphs}")

    def run(*inputs: Any) -> Any:
        STATE.check()
        with RECIPES.compiled_before():
            return graph_module(*inputs)

    return run
