"""The device as the toolkit asks for it; the bridge has been imported before, and has made `torch.hpu`."""

from __future__ import annotations

from typing import Any, Final

import torch
from runtime.static.device import Memory

MARGIN: Final = 64
"""One part in so many of the memory is left alone, as a step takes some for itself that is not seen between steps."""
NO_MEMORY: Final = ("Allocation failed", "out of memory")
"""What the bridge says when its allocator finds no room."""


class HpuDevice:
    """The one card of this process."""

    def __init__(self) -> None:
        self.torch_device = torch.device("hpu", 0)
        self._hpu: Any = torch.hpu  # type: ignore[attr-defined]

    def memory(self) -> Memory:
        """Tell what the allocator has left; what graphs will take is not known to it."""
        free, total = self._hpu.mem_get_info()
        return Memory(max(0, free - total // MARGIN), total)

    def synchronise(self) -> None:
        self._hpu.synchronize()  # of 1.19 takes no device

    def ran_out(self, error: RuntimeError) -> bool:
        return any(words in str(error) for words in NO_MEMORY)

    def is_lost(self, error: RuntimeError) -> bool:
        """Take any other error so: the bridge does not tell which are fatal, and one in a capture is."""
        return not self.ran_out(error)

    def delivered(self, logits: torch.Tensor) -> torch.Tensor:
        """Bring the scores to the host, which is the one read of a step.

        The device compiles for every new shape, and rows are sampled in ever new mixes.
        """
        return logits.cpu()
