"""A CUDA device as the toolkit asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from runtime.static.device import Memory

NO_MEMORY: Final = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How errors of the driver and of its libraries tell that there was no room; PyTorch's own have a type."""


class CudaDevice:
    """The first visible card; used on the device thread only."""

    def __init__(self, reserve: int) -> None:
        """`reserve`, in bytes, is left alone: for what steps take between graphs, and features that are kept."""
        self.torch_device = torch.device("cuda", 0)
        self._reserve = reserve

    def memory(self) -> Memory:
        """Tell what the driver has left, other processes' share taken off.

        What PyTorch keeps for later is given back first: memory of a prepared graph is not to be had again, and
        PyTorch does not tell the two apart.
        """
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(self.torch_device)
        return Memory(max(0, free - self._reserve), total)

    def synchronise(self) -> None:
        torch.cuda.synchronize(self.torch_device)

    def ran_out(self, error: RuntimeError) -> bool:
        """Look through the errors before this one too: an error in a capture is followed by one of its end."""
        return any(
            isinstance(each, torch.OutOfMemoryError) or any(words in str(each) for words in NO_MEMORY)
            for each in _chain(error)
        )

    def is_lost(self, error: RuntimeError) -> bool:  # noqa: ARG002
        """Try the device: what spoils it, as an illegal address does, is told by every call from then on.

        Source: cudaErrorIllegalAddress and its like in the CUDA runtime's list of errors.
        """
        try:
            self.synchronise()
        except RuntimeError:
            return True
        return False

    def delivered(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave the scores where they are: tokens are chosen there, and only their ids come back."""
        return logits


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
