"""Masks of grammars, from a bit per id on the host to a boolean per id on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def allowed(masks: Sequence[bytes], vocabulary: int, device: torch.device) -> torch.Tensor:
    """Unpack one mask per row: bool [rows, vocabulary], device.

    Bit b of byte i stands for id 8 * i + b. All masks have one length; ids beyond it, which pad the model's vocabulary
    and mean no text, are not allowed. Bits travel to the device packed, a thirty-second of the scores' size.
    """
    packed = torch.frombuffer(bytearray(b"".join(masks)), dtype=torch.uint8).view(len(masks), -1).to(device)
    bits = (packed[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=device)) & 1
    told = bits.flatten(1).bool()[:, :vocabulary]
    return torch.nn.functional.pad(told, (0, vocabulary - told.shape[-1]))
