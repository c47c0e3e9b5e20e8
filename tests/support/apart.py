"""Two devices where there is one: tensors on `meta` stand for those of an accelerator, which have no values here.

An operator that takes tensors of both is refused as a real device refuses it, and so is reading a value; torch itself
lets much of that pass for `meta`.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from runtime.static.device import Host
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES: Final = {torch.ops.aten.copy_, torch.ops.aten._to_copy, torch.ops.aten.to}


class Away(Host):
    """A device of its own."""

    torch_device = torch.device("meta")


class Apart(TorchDispatchMode):
    """Refuses what mixes devices while it is on; counts the copies to the device."""

    copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.dim() > 0]
        results = func(*args, **(kwargs or {}))
        where = {tensor.device.type for tensor in tensors}
        if func.overloadpacket in COPIES:
            self.copies += "cpu" in where and results.device.type == "meta"
        else:
            assert len(where) < 2, f"{func} mixes tensors of the host and of the device"
        return results
