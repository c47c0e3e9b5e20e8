"""What the toolkit asks of a device beyond torch's operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a device."""

    free: int
    """What may still be taken. A device that does not survive running out keeps its reserve out of it."""
    total: int


class Device(Protocol):
    """One accelerator; used on the device thread only."""

    @property
    def torch_device(self) -> torch.device:
        """Where tensors lie."""
        ...

    def memory(self) -> Memory | None:
        """Tell the memory; None where it cannot be told."""
        ...

    def synchronise(self) -> None:
        """Wait for everything that was started."""
        ...

    def ran_out(self, error: RuntimeError) -> bool:
        """Tell whether an error says that the memory did not suffice."""
        ...

    def is_lost(self, error: RuntimeError) -> bool:
        """Tell whether the device cannot be relied on after this error."""
        ...

    def delivered(self, logits: torch.Tensor) -> torch.Tensor:
        """Return scores where tokens are chosen from them.

        That is where they are, or the host, for a device that takes long to prepare for the shapes of every mix of
        rows.
        """
        ...


class Host:
    """The CPU, which has no memory of its own and computes at once."""

    torch_device = torch.device("cpu")

    def memory(self) -> Memory | None:
        return None

    def synchronise(self) -> None:
        """Nothing is under way."""

    def ran_out(self, error: RuntimeError) -> bool:
        return isinstance(error, torch.OutOfMemoryError)

    def is_lost(self, error: RuntimeError) -> bool:  # noqa: ARG002
        return False

    def delivered(self, logits: torch.Tensor) -> torch.Tensor:
        return logits
